import dataclasses
from typing import Literal

from distill.config import execution_keys, how_it_runs, resolve
from pipelines.distill_student import DistillConfig
from pipelines.pretrain import PretrainConfig

MODEL = ("async_linear", "attention", "fused", "remat", "remat_keep", "unroll")
TEXT = ("attention", "remat", "remat_keep", "unroll")
RUN = (
    *("data.cache", "data.cache_gib", "data.data_dir", "data.threads", "data.workers"),
    *("evals", "mesh", "transfer"),
    *("train.checkpoint_every", "train.eval_every", "train.keep_best", "train.keep_checkpoints"),
    "train.loggers",
    *("train.example_images", "train.keep_every", "train.log_every", "train.microbatches"),
)


def test_the_keys_of_pretraining_and_distillation_that_may_change_are_these():
    models = ("model", "students.*.model", "teacher.model", "teachers.*.model")
    # Of a pair, its towers'.
    towers = [*MODEL, *(f"image.{key}" for key in MODEL), *(f"text.{key}" for key in TEXT)]
    of_models = {model: {f"{model}.{key}" for key in towers} for model in models}
    assert set(execution_keys(PretrainConfig)) == {*RUN, *of_models["model"]}
    placed = {f"{one}.{key}" for one in ("teacher", "teachers.*") for key in ("params", "rules")}
    expected = {*RUN, *placed, "matching.block"}.union(*of_models.values())
    assert set(execution_keys(DistillConfig)) == expected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fast:
    kind: Literal["fast"] = "fast"
    threads: int = how_it_runs(2)
    steps: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slow:
    kind: Literal["slow"] = "slow"
    pauses: tuple[int, ...] = how_it_runs(())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    one: Fast | Slow | None = None
    several: dict[str, Fast | Slow] = dataclasses.field(default_factory=dict)
    logs: dict[str, int] = how_it_runs(factory=lambda: {"loss": 10})
    seed: int = 0


def test_keys_are_found_in_every_member_of_a_section_and_under_any_name():
    assert execution_keys(Run) == (
        *("logs", "one.pauses", "one.threads", "several.*.pauses", "several.*.threads"),
    )


def test_a_marked_field_is_read_as_any_other():
    config = resolve(Run, {"one": {"kind": "fast"}}, {"one.threads": "4", "logs.grad": "5"})
    assert config.one == Fast(threads=4) and config.logs == {"loss": 10, "grad": 5}
    assert Fast().threads == 2
