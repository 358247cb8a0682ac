import copy

import pytest
from small_config import BASE, Model, Optimizer, Run, Tuned, problems

from distill.config import ConfigError, resolve


def override(key, text, tree=BASE):
    config = resolve(Run, tree, {key: text})
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("seed", "7", 7),
        ("seed", "-7", -7),
        ("seed", "1e4", 10_000),
        ("seed", "1_000", 1000),
        ("share", "0.25", 0.25),
        ("share", "1", 1.0),
        ("share", "1e-3", 0.001),
        ("share", "none", None),
        ("share", "None", None),
        ("verbose", "true", True),
        ("verbose", "True", True),
        ("verbose", "false", False),
        ("model.bias", "false", False),
        ("model.bias", "none", None),
        ("model.width", "1e3", 1000),
        ("model.width", "none", None),
        ("model.sizes", "(1, 2)", (1, 2)),
        ("model.sizes", "[3]", (3,)),
        ("model.sizes", "()", ()),
        ("optimizer.betas", "(0.5, 1)", (0.5, 1.0)),
        ("optimizer.betas", "0.5,1", (0.5, 1.0)),
        ("optimizer.decay", "(('a$', 1e-2), ('b', 3))", (("a$", 0.01), ("b", 3.0))),
        ("optimizer.decay", "(('a', 1),)", (("a", 1.0),)),
        ("optimizer.name", "sgd", "sgd"),
        ("model.channels", "1", 1),
        ("model.channels", "3", 3),
    ],
)
def test_override_becomes_the_type_of_its_key(key, text, value):
    found = override(key, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["22", "1e4", "true", "(1, 2)", "none", "'B'", "", "a=b"])
def test_string_keeps_the_text_of_its_override(text):
    assert override("model.variant", text) == text
    assert override("model.name", text) == (None if text == "none" else text)


@pytest.mark.parametrize(
    "key, text",
    [
        ("seed", "three"),
        ("seed", "1.5"),
        ("seed", "08"),
        ("seed", ""),
        ("seed", "true"),
        ("seed", "none"),
        ("seed", "inf"),
        ("seed", "{[]: 1}"),
        ("share", "1" + "0" * 400),
        ("verbose", "1"),
        ("verbose", "yes"),
        ("optimizer.name", "lion"),
        ("optimizer.betas", "(1, 2"),
        ("optimizer.betas", "__import__('os')"),
        ("model.channels", "2"),
    ],
)
def test_override_of_the_wrong_type_is_a_problem_of_its_key(key, text):
    (problem,) = problems(BASE, {key: text})
    assert problem.startswith(f"config.{key} is ")


def test_override_wins_over_the_tree():
    tree = {"seed": 1, "model": {"variant": "B", "width": 5}}
    assert override("seed", "2", tree) == 2
    assert override("model.width", "6", tree) == 6
    config = resolve(Run, tree, {"model.width": "6"})
    assert config.seed == 1 and config.model.variant == "B"


@pytest.mark.parametrize("key", ["sede", "optimizer.nmae", "optimiser.name", "seed.deeper.still"])
def test_override_of_an_unknown_key_is_a_problem(key):
    (problem,) = problems(BASE | {"seed": 1}, {key: "1"})
    assert problem.startswith("config.")
    assert key.split(".")[0] in problem


@pytest.mark.parametrize(("text", "name"), [("5", "VALUE"), ("adam", "adam")])
def test_override_of_a_section_with_a_value_is_refused(text, name):
    (problem,) = problems(BASE, {"optimizer": text})
    assert problem.startswith("config.optimizer is ") and text in problem
    assert problem.endswith(f"expected a section with keys, such as --config.optimizer.name={name}")


@pytest.mark.parametrize("tree", [BASE, BASE | {"teacher": None}])
def test_override_inside_an_absent_optional_section_makes_the_section(tree):
    assert override("teacher.variant", "g", tree) == "g"
    (problem,) = problems(tree, {"teacher.width": "3"})
    assert problem == "config.teacher.variant is missing; expected text"


def test_optional_section_is_taken_away_by_none():
    tree = BASE | {"teacher": {"variant": "g"}}
    assert resolve(Run, tree).teacher == Model(variant="g")
    assert resolve(Run, tree, {"teacher": "none"}).teacher is None


def test_part_of_a_section_leaves_the_rest_of_its_default():
    expected = Tuned(optimizer=Optimizer(learning_rate=7.0, name="sgd", betas=(0.5, 0.5)))
    assert resolve(Tuned, {}) == Tuned()
    assert resolve(Tuned, {}, {"optimizer.betas": "(0.5, 0.5)"}) == expected
    assert resolve(Tuned, {"optimizer": {"betas": (0.5, 0.5)}}) == expected


def test_what_is_wrong_comes_from_another_process_as_it_is():
    with pytest.raises(ConfigError) as caught:
        resolve(Run, BASE, {"seed": "many", "share": "most"})
    copied = copy.copy(caught.value)
    assert copied.problems == caught.value.problems and str(copied) == str(caught.value)
    assert len(copied.problems) == 2
