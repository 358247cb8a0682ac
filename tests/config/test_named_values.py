import dataclasses
import json
from typing import Annotated, Any

import pytest

from distill.config import ConfigError, KnownNames, describe, resolve, to_dict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
    losses: Annotated[dict[str, float], KnownNames(lambda: ("kl", "hint", "relation"))] = (
        dataclasses.field(default_factory=lambda: {"kl": 1.0})
    )
    free: dict[str, int] = dataclasses.field(default_factory=dict)


def losses(**overrides):
    return resolve(Matching, {}, {f"losses.{k}": v for k, v in overrides.items()}).losses


def problem(tree, overrides=()):
    with pytest.raises(ConfigError) as caught:
        resolve(Matching, tree, dict(overrides))
    (found,) = caught.value.problems
    return found


def test_named_values_are_laid_over_their_default():
    assert losses() == {"kl": 1.0}
    assert losses(hint="0.5") == {"hint": 0.5, "kl": 1.0}
    assert losses(kl="2") == {"kl": 2.0} and isinstance(losses(kl="2")["kl"], float)
    assert resolve(Matching, {"free": {"any_name": 3}}).free == {"any_name": 3}


def test_a_named_value_is_taken_away_by_none():
    assert losses(kl="none", hint="1") == {"hint": 1.0}
    config = resolve(Matching, {"losses": {"kl": None, "hint": 1}})
    recorded = json.loads(json.dumps(to_dict(config)))
    assert recorded["losses"] == {"hint": 1.0, "kl": None}
    assert resolve(Matching, recorded) == config


@pytest.mark.parametrize(("tree", "overrides"), [({}, {"losses": "none"}), ({"losses": None}, {})])
def test_none_takes_all_named_values_away(tree, overrides):
    config = resolve(Matching, tree, overrides)
    assert config.losses == {}
    recorded = json.loads(json.dumps(to_dict(config)))
    assert recorded["losses"] == {"kl": None}
    assert resolve(Matching, recorded) == config


def test_what_is_wrong_with_a_named_value_is_named():
    found = problem({}, {"losses.hnit": "1"})
    assert found == "config.losses.hnit is unknown; did you mean config.losses.hint?"
    assert problem({}, {"losses.hint": "much"}).startswith("config.losses.hint is 'much'")
    assert problem({}, {"losses": "3"}) == "config.losses is '3'; expected values by name"
    assert "a name has the letters a to z" in problem({"free": {"a b": 1}})


def test_a_named_value_is_described_once():
    keys = [key for key, *_ in describe(Matching)]
    known = [f"config.losses.{name}" for name in ("kl", "hint", "relation")]
    assert keys == [*known, "config.free.NAME"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grown:
    size: str
    width: int
    depth: int = 1

    @classmethod
    def implied(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("size", "small") not in ("small", "large"):
            raise ValueError(f"unknown size {given['size']!r}")
        return {"small": {"width": 2}, "large": {"width": 4, "depth": 8}}.get(given.get("size"), {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Farm:
    plant: Grown = Grown(size="small", width=2, depth=3)


def test_what_follows_from_other_values_need_not_be_given():
    assert resolve(Grown, {"size": "small"}) == Grown(size="small", width=2, depth=1)
    assert resolve(Grown, {}, {"size": "large"}) == Grown(size="large", width=4, depth=8)


def test_what_is_given_goes_before_what_follows():
    assert resolve(Grown, {"size": "large", "width": 1}) == Grown(size="large", width=1, depth=8)


def test_what_follows_from_a_default_gives_way_to_what_follows_from_an_override():
    assert resolve(Farm, {}, {"plant.size": "large"}).plant == Grown(size="large", width=4, depth=3)


def test_wrong_values_that_others_follow_from_are_reported_once():
    with pytest.raises(ConfigError) as caught:
        resolve(Grown, {"size": "vast"})
    assert caught.value.problems == ("config: unknown size 'vast'",)
    with pytest.raises(ConfigError) as caught:
        resolve(Grown, {})
    assert [one.split(";")[0] for one in caught.value.problems] == [
        "config.size is missing",
        "config.width is missing",
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(Grown, {"size": 3})
    assert [one.split(";")[0] for one in caught.value.problems] == ["config.size is 3"]
