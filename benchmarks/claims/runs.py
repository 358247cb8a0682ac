"""Trainings that claims are judged by: each is done once, whichever claims look at it."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from distill import config as configs
from distill.errors import Damaged
from distill.json_files import read_json, write_json

Pipeline = Literal["pretrain", "distill_student", "finetune", "train_pair"]

# What says in a workdir that its run has come to its end, and how.
_DONE = "claims.json"

_CONFIGS = {
    "pretrain": "distill.runs.pretraining:PretrainConfig",
    "distill_student": "distill.runs.distillation:DistillConfig",
    "finetune": "pipelines.finetune:FinetuneConfig",
    "train_pair": "distill.runs.pairs:PairTrainingConfig",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A training by what it computes: equal ones are done once."""

    pipeline: Pipeline
    config: Mapping[str, Any]
    """As a config file has it."""
    uses: tuple[tuple[str, "Run"], ...] = ()
    """Keys of the config that are other runs' workdirs, such as `teacher.workdir`."""
    changed: str = ""
    """What no config says and is done otherwise, one of `CHANGES`."""
    compiled_for: str = ""
    """A slice of TPUs, such as v4:2x2x1: its step is compiled for that, and nothing is trained."""

    @functools.cached_property
    def name(self) -> str:
        """Of its workdir: the pipeline and 64 bits of a hash of all it depends on."""
        stated = [configs.to_dict(self._resolve(Path("/"))), self.changed]
        stated += [self.compiled_for] if self.compiled_for else []
        said = json.dumps(stated, sort_keys=True).encode()
        return f"{self.pipeline}-{hashlib.sha256(said).hexdigest()[:16]}"

    def perform(self, root: Path) -> None:
        """Trains to the end, or goes on with what was stopped, and notes what it took.

        A training that diverges has come to its end, too.
        """
        workdir, began = root / self.name, time.process_time()
        config = self._resolve(root)
        with CHANGES[self.changed]() if self.changed else contextlib.nullcontext():
            if self.compiled_for:
                said = _plan(config, self.compiled_for, workdir)
            else:
                said = _train(self, config, workdir)
        seconds = time.process_time() - began
        done = {"cpu_seconds": round(seconds, 1), "diverged": said}
        write_json(workdir / _DONE, done, checked=True)

    def finished(self, root: Path) -> "Finished | None":
        """What it came to; None where it has not come to its end.

        Raises:
          Damaged: if what says so is no longer what was written.
        """
        from distill.train import metrics

        workdir = root / self.name
        if not (workdir / _DONE).exists():
            return None
        done = read_json(workdir / _DONE)
        if not isinstance(done, dict) or not done.keys() >= {"cpu_seconds", "diverged"}:
            raise Damaged(
                f"{workdir / _DONE} is damaged: it says neither how long its run took nor how it "
                f"ended. Delete {workdir}, and the same command trains it again"
            )
        summary = {} if done["diverged"] else read_json(workdir / "summary.json")
        rows = [] if self.compiled_for else metrics.read(workdir)
        return Finished(summary, rows, bool(done["diverged"]), done["cpu_seconds"])

    def _resolve(self, root: Path) -> Any:
        paths = {key: str(root / run.name) for key, run in self.uses}
        return configs.resolve(_named(_CONFIGS[self.pipeline]), self.config, paths)


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a run came to."""

    summary: Mapping[str, Any]
    """Its summary.json; empty where it diverged."""
    rows: list[dict[str, float]]
    """Of its metrics.jsonl."""
    diverged: bool
    cpu_seconds: float

    def curve(self, metric: str) -> tuple[list[float], list[float]]:
        """The steps at which a metric was logged, and its values."""
        found = [(row["step"], row[metric]) for row in self.rows if metric in row]
        return [step for step, _ in found], [value for _, value in found]


def _train(run: Run, config: Any, workdir: Path) -> str:
    """Why it has diverged; an empty text where it has not."""
    from distill.train.loop import NonFinite
    from distill.train.workdir import Workdir

    module = importlib.import_module(f"pipelines.{run.pipeline}")
    try:
        module.run(config, Workdir(workdir), run.name, overview=False)
    except NonFinite as error:
        return str(error)
    return ""


def _plan(config: Any, topology: str, workdir: Path) -> str:
    """Keeps what the compiler says in place of a training's summary."""
    from distill.estimate.jobs import make_plan
    from distill.estimate.machines import open_machine

    plan = make_plan(config, open_machine(topology), steps=None)
    workdir.mkdir(parents=True, exist_ok=True)
    found = {"temporary_bytes": plan.memory.temporaries}
    write_json(workdir / "summary.json", found, checked=True)
    return ""


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


@contextlib.contextmanager
def _without_qk_norm() -> Iterator[None]:
    """Queries and keys stay as they are, though the config has them normalised."""
    from distill.nn.attention import QKNorm

    with mock.patch.object(QKNorm, "__call__", lambda self, q, k: (q, k)):
        yield


@contextlib.contextmanager
def _adam_in_float32() -> Iterator[None]:
    """Adam keeps its first moment in float32."""
    import optax

    adam = functools.partial(optax.scale_by_adam)
    with mock.patch.object(optax, "scale_by_adam", lambda b1, b2, mu_dtype: adam(b1, b2)):
        yield


@contextlib.contextmanager
def _published_adafactor() -> Iterator[None]:
    """Adafactor as arXiv 1804.04235 has it, but for the learning rate: optax's transformations.

    No first moment; updates clipped at a root mean square of 1, and in proportion to that of the
    parameter. Stacked layers are one matrix to it.
    """
    import jax
    import optax

    from distill.optim import optimizer
    from distill.train import state

    def factored(axes: Any, *, clip_norm: float) -> optax.GradientTransformation:
        del axes
        return optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.scale_by_factored_rms(min_dim_size_to_factor=32),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
        )

    def whole(moments: Any, params: Any, axes: Any) -> Any:
        # Its moments have shapes of their own; on one device nothing is cut.
        del params, axes
        return jax.tree.map(lambda leaf: (None,) * leaf.ndim, moments)

    with (
        mock.patch.object(optimizer, "scale_by_factored_rms", factored),
        mock.patch.object(state, "state_axes", whole),
        mock.patch.object(optimizer, "_moving_average", lambda decay: optax.identity()),
    ):
        yield


CHANGES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "without_qk_norm": _without_qk_norm,
    "adam_in_float32": _adam_in_float32,
    "published_adafactor": _published_adafactor,
}
"""What can be done otherwise beside what configs say, by name."""
