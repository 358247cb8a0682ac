import dataclasses
import json
import sys
from typing import Literal

import pytest

from distill.config import ConfigError, OneOf, describe, resolve, to_dict, with_defaults
from distill.config.tagged import members
from distill.modules import modules_in


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    kind: Literal["box"] = "box"
    width: int = 1
    depth: int = 1
    label: str = "b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball:
    kind: Literal["ball"] = "ball"
    radius: float
    label: int = 0

    def __post_init__(self):
        if self.radius < 0:
            raise ValueError(f"radius must not be negative, not {self.radius}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shelf:
    first: Box | Ball
    second: Box | Ball | None = None
    third: Box | Ball = Box(width=3, depth=3)
    rest: dict[str, Box | Ball] = dataclasses.field(
        default_factory=lambda: {"a": Box(width=7), "b": Ball(radius=2.0)}
    )
    source: str | Ball = "shop"


FIRST = {"first": {"kind": "box"}}


def problems(tree, overrides=(), schema=Shelf):
    with pytest.raises(ConfigError) as caught:
        resolve(schema, tree, dict(overrides))
    return caught.value.problems


def shelf(**overrides):
    return resolve(Shelf, FIRST, {key.replace("__", "."): text for key, text in overrides.items()})


def test_a_section_becomes_the_dataclass_its_tag_names():
    tree = {"first": {"kind": "ball", "radius": 2}, "second": {"kind": "box", "width": 4}}
    config = resolve(Shelf, tree)
    assert config.first == Ball(radius=2.0) and config.second == Box(width=4)
    assert resolve(Shelf, FIRST).second is None


def test_the_tag_may_come_after_the_keys_it_decides_about():
    config = shelf(second__radius="3", second__kind="ball")
    assert config.second == Ball(radius=3.0)


def test_a_text_means_what_the_chosen_dataclass_makes_of_it():
    assert shelf(first__label="5").first.label == "5"
    assert shelf(second__kind="ball", second__radius="1", second__label="5").second.label == 5


def test_part_of_a_section_keeps_the_class_and_the_rest_of_its_default():
    assert shelf(third__width="5").third == Box(width=5, depth=3)


def test_another_tag_takes_nothing_from_the_default():
    config = shelf(third__kind="ball", third__radius="1")
    assert config.third == Ball(radius=1.0)
    assert shelf(third__kind="box").third == Box(width=3, depth=3)


def test_named_sections_are_laid_over_their_default():
    config = shelf(rest__a__width="9", rest__c__kind="ball", rest__c__radius="1")
    assert config.rest == {"a": Box(width=9), "b": Ball(radius=2.0), "c": Ball(radius=1.0)}
    assert list(config.rest) == ["a", "b", "c"]


@pytest.mark.parametrize("gone", ["none", "None"])
def test_a_named_section_is_taken_away_by_none(gone):
    config = shelf(rest__b=gone)
    assert config.rest == {"a": Box(width=7)}
    recorded = json.loads(json.dumps(to_dict(config)))
    assert recorded["rest"]["b"] is None
    assert resolve(Shelf, recorded) == config


def test_all_named_sections_are_taken_away_by_none_to_which_nothing_is_added():
    tree = FIRST | {"rest": {"c": {"kind": "box"}}}
    assert resolve(Shelf, tree, {"rest": "none"}).rest == {}
    (problem,) = problems(tree, {"rest": "none", "rest.d.kind": "box"})
    assert problem.startswith("config.rest.d.kind: config.rest is none, which takes all away")


def test_an_override_takes_away_what_a_file_names():
    tree = FIRST | {"rest": {"c": {"kind": "box"}}}
    assert sorted(resolve(Shelf, tree, {"rest.c": "none"}).rest) == ["a", "b"]


def test_a_value_may_stand_where_a_section_may():
    assert shelf().source == "shop"
    assert shelf(source="there").source == "there"
    assert resolve(Shelf, FIRST | {"source": {"radius": 1}}).source == Ball(radius=1.0)
    (problem,) = problems(FIRST | {"source": 3})
    assert problem.startswith("config.source is 3; expected ")


@pytest.mark.parametrize(
    "tree, expected",
    [
        ({"kind": "bal"}, "config.first.kind is 'bal'; expected one of box, ball; did you mean"),
        ({"kind": 3}, "config.first.kind is 3; expected one of box, ball"),
        ({"kind": None}, "config.first.kind is None; expected one of box, ball"),
        ({"kind": ["box"]}, "config.first.kind is ['box']; expected one of box, ball"),
        ({}, "config.first.kind is missing; expected one of box, ball"),
        ({"kind": "box", "radius": 1}, "config.first.radius belongs to kind ball, not to box"),
        ({"kind": "box", "widht": 1}, "config.first.widht is unknown; did you mean config."),
        ({"kind": "ball"}, "config.first.radius is missing; expected "),
        ({"kind": "ball", "radius": -1}, "config.first: radius must not be negative, not -1.0"),
    ],
)
def test_what_is_wrong_with_a_tagged_section_is_named(tree, expected):
    (problem,) = problems({"first": tree})
    assert problem.startswith(expected)


def test_an_unknown_tag_hides_nothing_else_that_is_wrong():
    found = problems(
        {"first": {"kind": "cone", "widht": 2}, "sceond": None},
        {"third.radius": "1", "rest.a.radius": "2", "rest.b.label": "x"},
    )
    for part in (
        "config.first.kind is 'cone'",
        "config.first.widht is unknown; did you mean config.first.width?",
        "config.sceond is unknown; did you mean config.second",
        "config.third.radius belongs to kind ball, not to box",
        "config.rest.a.radius belongs to kind ball, not to box",
        "config.rest.b.label is 'x'; expected",
    ):
        assert sum(problem.startswith(part) for problem in found) == 1, (part, found)
    assert len(found) == 6


def test_keys_of_all_members_are_described_once():
    keys = [key for key, *_ in describe(Shelf)]
    assert keys.count("config.first.kind") == 1
    assert {"config.first.width", "config.first.radius", "config.rest.NAME.radius"} <= set(keys)


def test_a_tagged_config_survives_json():
    config = shelf(second__kind="ball", second__radius="1", rest__a="none")
    recorded = json.loads(json.dumps(to_dict(config)))
    assert resolve(Shelf, recorded) == config
    assert with_defaults(config, recorded) == recorded


def test_defaults_of_one_member_are_not_added_to_the_record_of_another():
    config, other = shelf(second__kind="box"), shelf(second__kind="ball", second__radius="1")
    recorded = to_dict(other)
    assert with_defaults(config, recorded) == recorded
    del recorded["second"]["label"]
    assert with_defaults(other, recorded)["second"]["label"] == 0


def test_dataclasses_that_nothing_tells_apart_are_an_error_of_the_schema():
    @dataclasses.dataclass(frozen=True)
    class Plain:
        width: int = 1

    class Both:
        pass

    Both.__annotations__ = {"one": Plain | Box}
    with pytest.raises(TypeError, match="Plain, Box apart"):
        resolve(dataclasses.dataclass(Both), {"one": {"width": 1}})


MEMBER = """
import dataclasses
from typing import Literal
from some_shapes import Shape

@dataclasses.dataclass(frozen=True, kw_only=True)
class {name}(Shape):
    kind: Literal["{label}"] = "{label}"
    {field}: int = 0
"""
BASE = """
import dataclasses
from distill.config import OneOf

class Shape(OneOf, tag="kind", found_in=("some_shapes",)):
    pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes the modules of a package that holds an open set; returns its base."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "some_shapes"
    folder.mkdir()
    (folder / "__init__.py").write_text(BASE)

    def write(**labels):
        for name, label in labels.items():
            text = MEMBER.format(name=name.title(), label=label, field=f"of_{name}")
            (folder / f"{name}.py").write_text(text)
        import some_shapes

        return some_shapes.Shape

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "some_shapes"]:
        del sys.modules[name]
    modules_in.cache_clear()


def test_a_new_file_adds_a_member(package):
    base = package(cube="cube", prism="prism")
    config = resolve(base, {}, {"kind": "prism", "of_prism": "3"})
    assert type(config).__name__ == "Prism" and config.of_prism == 3
    (problem,) = problems({"kind": "cube", "of_prism": 1}, schema=base)
    assert problem == "config.of_prism belongs to kind prism, not to cube"
    (problem,) = problems({"kind": "cub"}, schema=base)
    assert problem.endswith("expected one of cube, prism; did you mean 'cube'?")
    (problem,) = problems({}, schema=base)
    assert problem == "config.kind is missing; expected one of cube, prism"


def test_two_members_of_one_label_are_an_error_of_the_schema(package):
    base = package(cube="cube", die="cube")
    with pytest.raises(TypeError, match="both have kind 'cube'"):
        members(base)


def test_a_member_without_a_label_is_only_a_base():
    class Sound(OneOf, tag="kind"):
        pass

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Loud(Sound):
        volume: int = 1

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Bell(Loud):
        kind: Literal["bell"] = "bell"

    assert members(Sound) == (Bell,)
    assert resolve(Sound, {"kind": "bell", "volume": 2}) == Bell(volume=2)
