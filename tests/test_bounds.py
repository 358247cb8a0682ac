"""Every number that a user can give has bounds, and what lies outside is refused with all else."""

import dataclasses
import importlib
import math
import pkgutil
import typing
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from absl import flags

import pipelines
from distill.bounds import Between, Share, bounds_of, check_fields
from distill.command.evaluations import EvaluateConfig
from distill.config import ConfigError, load_file, resolve
from distill.config.schema import MISSING, bare, default_of, leaves, options
from distill.config.values import coerce, type_name
from distill.data import open_source
from distill.data.sources.class_lists import label_text
from distill.errors import UserError
from distill.estimate.topology import open_topology
from distill.laws.config import StudyConfig
from distill.runs.distillation import DistillConfig
from distill.runs.heads import HeadTrainingConfig
from distill.runs.pairs import PairTrainingConfig
from distill.runs.pretraining import PretrainConfig
from distill.runs.storing import StoreTargetsConfig
from distill.train.branch import origin_of
from pipelines.finetune import FinetuneConfig

SCHEMAS = (
    *(PretrainConfig, DistillConfig, StoreTargetsConfig, FinetuneConfig, HeadTrainingConfig),
    *(PairTrainingConfig, StudyConfig, EvaluateConfig),
)
# Values of other keys, which are checked where they are laid over those.
EXEMPT = {"config.sizes"}


def numbers(annotation):
    """The annotations of single numbers in one."""
    if bare(annotation) in (int, float):
        yield annotation
    elif typing.get_origin(annotation) is not Literal:
        for part in typing.get_args(annotation):
            if not isinstance(part, Between):
                yield from numbers(part)


def all_leaves():
    found = {}
    for schema in SCHEMAS:
        for path, field, annotation in leaves(schema):
            found[path, field.name, str(annotation)] = (path, field, annotation)
    return list(found.values())


LEAVES = all_leaves()


def test_every_number_of_every_config_has_bounds():
    with_numbers = [(path, list(numbers(annotation))) for path, _, annotation in LEAVES]
    assert sum(map(len, (found for _, found in with_numbers))) > 200
    assert {
        path
        for path, found in with_numbers
        if path not in EXEMPT and not all(bounds_of(one) for one in found)
    } == set()


def test_defaults_are_within_bounds_and_what_lies_outside_is_not():
    for path, field, annotation in LEAVES:
        default = default_of(field)
        if default is not MISSING and not isinstance(default, dict) and path not in EXEMPT:
            assert coerce(default, annotation, path) == default, path
        for one in options(annotation):
            if (bounds := bounds_of(one)) is None:
                continue
            outside = (-(2**63), 2**63, 1e300, -1e300, math.inf, -math.inf, math.nan)
            for value in outside:
                assert coerce(value, one, path) is MISSING, (path, value)
            assert coerce(bounds.low, one, path) is not MISSING or bounds.open in ("low", "both")


def test_every_number_of_every_flag_has_bounds():
    seen = 0
    for module in pkgutil.iter_modules(pipelines.__path__):
        values = getattr(importlib.import_module(f"pipelines.{module.name}"), "FLAGS", None)
        for name in values or ():
            parser = values[name].parser
            assert not isinstance(parser, flags.IntegerParser | flags.FloatParser), name
            seen += 1
    assert seen > 50


IMPOSSIBLE = {
    "model.width": "2147483648",
    "model.depth": "1e22",
    "model.image_size": str(2**63),
    "train.total_steps": "1e22",
    "data.workers": "1000",
    "data.threads": "100000",
    "optimizer.learning_rate": "0x" + "f" * 6000,
    "optimizer.b1": "nan",
    "optimizer.clip_norm": "1e999",
    "schedule.warmup_steps": "(" * 20_000,
    "seed": "9" * 6000,
}


def test_all_impossible_values_are_reported_at_once_in_short_lines_with_what_is_allowed():
    with pytest.raises(ConfigError) as error:
        resolve(PretrainConfig, load_file("pretrain/digits"), IMPOSSIBLE)
    problems = error.value.problems
    assert len(problems) == len(IMPOSSIBLE)
    for key in IMPOSSIBLE:
        (problem,) = (one for one in problems if one.startswith(f"config.{key} is "))
        assert "; expected " in problem and len(problem) < 220
    assert any("expected whole number from 0 to 512 or none" in one for one in problems)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        (Between(0, 1), (0, 0.5, 1), (-1e-9, 1.001), "from 0 to 1"),
        (Between(0, 1, "low"), (1e-9, 1), (0, 2), "above 0 to 1"),
        (Between(0, 1, "high"), (0, 0.999), (1, -1), "from 0 to below 1"),
        (Between(0, 1, "both"), (0.5,), (0, 1), "above 0 to below 1"),
        (Between(1, 2**31), (1, 2**31), (0, 2**31 + 1), "from 1 to 2,147,483,648"),
    ],
)
def test_bounds_hold_the_ends_that_they_say(bounds, inside, outside, said):
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in (*outside, math.nan, math.inf, -math.inf))
    assert str(bounds) == said


@dataclasses.dataclass(frozen=True)
class Sizes:
    side: Annotated[int, Between(1, 9)] | tuple[Annotated[int, Between(1, 9)], ...] | None = None
    shares: tuple[tuple[str, Share], ...] = ()
    named: dict[str, Share] = dataclasses.field(default_factory=dict)
    mode: Literal["auto", 1, 3] | None = None
    text: str = ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(side=0), "side must be a whole number from 1 to 9, not 0"),
        (dict(shares=(("a", "half"),)), "shares must be a number from 0 to 1, not 'half'"),
        (dict(shares=(("a", None),)), "shares must be a number from 0 to 1, not None"),
        (dict(side=(3, 10)), "side must be a whole number from 1 to 9, not 10"),
        (dict(shares=(("a", 0.5), ("b", 1.5))), "shares must be a number from 0 to 1, not 1.5"),
        (dict(named={"a": math.nan}), "named must be a number from 0 to 1, not nan"),
        (dict(mode="off"), "mode must be one of 'auto', 1, 3, not 'off'"),
    ],
)
def test_fields_of_a_dataclass_are_checked_wherever_numbers_are_in_them(given, message):
    with pytest.raises(ValueError, match=message):
        check_fields(Sizes(**given))


def test_fields_within_bounds_pass_and_help_says_the_bounds():
    for given in (
        {},
        dict(side=9),
        dict(side=np.int64(9)),
        dict(shares=(("a", np.float32(0.5)),)),
        dict(side=(1, 9)),
        dict(shares=(("a", 1),)),
        dict(mode=3),
    ):
        check_fields(Sizes(**given))
    annotation = typing.get_type_hints(Sizes, include_extras=True)["side"]
    assert type_name(annotation) == (
        "whole number from 1 to 9 or list of whole number from 1 to 9 or none"
    )


# More than Python makes a number of.
DIGITS = "9" * 5000


def test_texts_of_thousands_of_digits_are_no_numbers_wherever_one_is_read():
    assert origin_of(f"/x@{DIGITS}") == Path(f"/x@{DIGITS}")
    assert origin_of("/x@12") == Path("/x")
    assert label_text(DIGITS) == DIGITS and label_text("007") == "7"
    for read in (
        lambda: open_topology(f"v5e:{DIGITS}x1"),
        lambda: open_source(f"digits?size={DIGITS}", "train", channels=1),
        lambda: open_source("digits", f"train[:{DIGITS}]", channels=1),
        lambda: open_source("digits", f"train[:{DIGITS}%]", channels=1),
    ):
        with pytest.raises(UserError):
            read()


def test_a_name_is_no_longer_than_a_folder_may_be_called():
    tree = load_file("pretrain/digits")
    for length in (100, 101):
        overrides = {f"evals.{'x' * length}.kind": "split"}
        if length == 100:
            resolve(PretrainConfig, tree, overrides)
            continue
        with pytest.raises(ConfigError, match="and at most 100 of them"):
            resolve(PretrainConfig, tree, overrides)
