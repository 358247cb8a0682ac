from pathlib import Path

import pytest
from small_config import BASE, Careful, Model, Optimizer, Run, problems

from distill.config import load_file, resolve
from pipelines.pretrain import PretrainConfig

DIGITS = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "digits.py"


def test_what_a_tree_leaves_out_keeps_its_default():
    assert resolve(Run, BASE) == Run(model=Model(variant="B"))


def test_what_a_tree_says_is_taken():
    tree = {
        "seed": 3,
        "share": 1,
        "model": {"variant": "L", "sizes": [1, 2], "bias": False, "channels": 1},
        "optimizer": {"decay": [["a", 1], ["b", 0.5]], "betas": (0, 1)},
        "teacher": {"variant": "g"},
    }
    config = resolve(Run, tree)
    assert config == Run(
        seed=3,
        share=1.0,
        model=Model(variant="L", sizes=(1, 2), bias=False, channels=1),
        optimizer=Optimizer(decay=(("a", 1.0), ("b", 0.5)), betas=(0.0, 1.0)),
        teacher=Model(variant="g"),
    )
    assert isinstance(config.share, float) and isinstance(config.optimizer.decay[0][1], float)


def test_tree_and_overrides_are_left_alone():
    tree, overrides = {"model": {"variant": "B"}}, {"model.width": "3", "optimizer.name": "sgd"}
    resolve(Run, tree, overrides)
    assert tree == {"model": {"variant": "B"}}
    assert overrides == {"model.width": "3", "optimizer.name": "sgd"}


@pytest.mark.parametrize(
    "tree, message",
    [
        ({"sede": 1}, "config.sede is unknown; did you mean config.seed?"),
        (
            {"optimizer": {"learning_rat": 1}},
            "config.optimizer.learning_rat is unknown; "
            "did you mean config.optimizer.learning_rate?",
        ),
        ({"teacher": {"variant": "g", "decay": ()}}, "did you mean config.optimizer.decay?"),
        ({"learning_rate": 1}, "did you mean config.optimizer.learning_rate?"),
        ({"optimiser": {"name": "sgd"}}, "did you mean config.optimizer?"),
        ({"zzz": 1}, "seed, verbose, share, model, optimizer, teacher"),
    ],
)
def test_unknown_key_names_the_nearest(tree, message):
    (problem,) = problems(BASE | tree)
    assert message in problem


def test_right_name_in_the_wrong_section_is_found_before_a_similar_one():
    # model.bias is similar, optimizer.betas is what was meant.
    (problem,) = problems({"model": {"variant": "B", "betas": (1, 2)}})
    assert "did you mean config.optimizer.betas?" in problem
    # train.total_steps is similar, schedule.warmup_steps is what was meant.
    tree = load_file(str(DIGITS))
    (problem,) = problems(tree, {"train.warmup_steps": "3"}, PretrainConfig)
    assert "did you mean config.schedule.warmup_steps?" in problem


@pytest.mark.parametrize(
    "tree, expected",
    [
        ({"seed": "1"}, "config.seed is '1'; expected whole number"),
        ({"seed": 1.5}, "config.seed is 1.5; expected whole number"),
        ({"seed": True}, "config.seed is True; expected whole number"),
        ({"seed": None}, "config.seed is None; expected whole number"),
        ({"verbose": 1}, "config.verbose is 1; expected true or false"),
        ({"share": "half"}, "config.share is 'half'; expected number or none"),
        (
            {"optimizer": {"name": "lion"}},
            "config.optimizer.name is 'lion'; expected one of adam, sgd",
        ),
        ({"optimizer": {"betas": (1, 2, 3)}}, "config.optimizer.betas is (1, 2, 3)"),
        ({"optimizer": {"betas": 1}}, "config.optimizer.betas is 1"),
        ({"optimizer": {"decay": ("a", 1)}}, "config.optimizer.decay is ('a', 1)"),
        ({"optimizer": 3}, "config.optimizer is 3; expected a section"),
        ({"model": {"variant": 22}}, "config.model.variant is 22; expected text"),
        (
            {"model": {"variant": "B", "channels": 2}},
            "config.model.channels is 2; expected one of 1, 3",
        ),
        ({"model": {"variant": "B", "channels": True}}, "config.model.channels is True"),
        ({"model": {"variant": "B", "sizes": (1, "2")}}, "config.model.sizes is (1, '2')"),
        ({"model": None}, "config.model is None; expected section"),
    ],
)
def test_wrong_type_says_what_is_expected(tree, expected):
    (problem,) = problems(BASE | tree)
    assert expected in problem


@pytest.mark.parametrize("tree", [{}, {"model": {}}])
def test_missing_key_is_named(tree):
    (problem,) = problems(tree)
    assert problem == "config.model.variant is missing; expected text"


def test_impossible_value_names_its_section():
    (problem,) = problems(BASE | {"optimizer": {"learning_rate": -1}})
    assert problem == "config.optimizer: learning_rate must be positive, not -1.0"


def test_problems_of_all_sections_are_reported_at_once():
    found = problems(
        {
            "sede": 1,
            "verbose": "yes",
            "model": {"channels": 2},
            "optimizer": {"learning_rate": 0},
            "teacher": {"variant": "B", "widht": 3},
        },
        {"share": "much"},
    )
    assert len(found) == 7
    for part in (
        "config.sede is unknown",
        "config.verbose is 'yes'",
        "config.share is 'much'",
        "config.model.variant is missing",
        "config.model.channels is 2",
        "config.optimizer: learning_rate must be positive",
        "config.teacher.widht is unknown",
    ):
        assert sum(part in problem for problem in found) == 1, part


def test_unknown_key_does_not_hide_an_impossible_value_beside_it():
    found = problems(BASE | {"optimizer": {"learning_rate": -1, "nmae": "sgd"}})
    assert len(found) == 2
    assert any("nmae is unknown" in problem for problem in found)
    assert any("learning_rate must be positive" in problem for problem in found)


def test_failed_section_is_not_looked_into():
    # "unknown" in the message of a section's own problem is not an unknown key.
    tree = {"model": {"variant": "nope"}, "optimizer": {"name": "sgd"}}
    (problem,) = problems(tree, schema=Careful)
    assert problem == "config.model: unknown variant 'nope'"


def test_sections_that_contradict_each_other_are_reported():
    tree = {"model": {"variant": "B", "channels": 1}, "optimizer": {"name": "sgd"}}
    assert problems(tree, schema=Careful) == ("config: sgd needs colour",)
