import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest

from distill.config import (
    ConfigError,
    describe,
    load_file,
    resolve,
    to_dict,
    with_defaults,
)
from distill.errors import UserError
from distill.optim import OptimizerConfig, ScheduleConfig
from pipelines.pretrain import PretrainConfig
from students import vit

DIGITS = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "digits.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = 0.1
    name: Literal["adam", "sgd"] = "adam"
    decay: tuple[tuple[str, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    variant: str
    channels: Literal[1, 3] = 3
    bias: bool | None = None
    width: int | None = None
    sizes: tuple[int, ...] = ()
    name: str | None = None

    def __post_init__(self):
        if self.variant == "nope":
            raise ValueError("unknown variant 'nope'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    seed: int = 0
    verbose: bool = False
    share: float | None = 0.5
    model: Model
    optimizer: Optimizer = Optimizer()
    teacher: Model | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    optimizer: Optimizer = Optimizer(learning_rate=7.0, name="sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Careful:
    """Looks into its sections, as a schema that compares two of them must."""

    model: Model
    optimizer: Optimizer

    def __post_init__(self):
        if self.model.channels == 1 and self.optimizer.name == "sgd":
            raise ValueError("sgd needs colour")


BASE = {"model": {"variant": "B"}}


def problems(tree, overrides=(), schema=Run):
    with pytest.raises(ConfigError) as caught:
        resolve(schema, tree, dict(overrides))
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def override(key, text, tree=BASE):
    config = resolve(Run, tree, {key: text})
    for name in key.split("."):
        config = getattr(config, name)
    return config


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
        ({"seed": "1"}, "config.seed is '1'; expected int"),
        ({"seed": 1.5}, "config.seed is 1.5; expected int"),
        ({"seed": True}, "config.seed is True; expected int"),
        ({"seed": None}, "config.seed is None; expected int"),
        ({"verbose": 1}, "config.verbose is 1; expected bool"),
        ({"share": "half"}, "config.share is 'half'; expected float | None"),
        (
            {"optimizer": {"name": "lion"}},
            "config.optimizer.name is 'lion'; expected 'adam' | 'sgd'",
        ),
        ({"optimizer": {"betas": (1, 2, 3)}}, "config.optimizer.betas is (1, 2, 3)"),
        ({"optimizer": {"betas": 1}}, "config.optimizer.betas is 1"),
        ({"optimizer": {"decay": ("a", 1)}}, "config.optimizer.decay is ('a', 1)"),
        ({"optimizer": 3}, "config.optimizer is 3; expected a section"),
        ({"model": {"variant": 22}}, "config.model.variant is 22; expected str"),
        ({"model": {"variant": "B", "channels": 2}}, "config.model.channels is 2; expected 1 | 3"),
        ({"model": {"variant": "B", "channels": True}}, "config.model.channels is True"),
        ({"model": {"variant": "B", "sizes": (1, "2")}}, "config.model.sizes is (1, '2')"),
        ({"model": None}, "config.model is None; expected Model"),
    ],
)
def test_wrong_type_says_what_is_expected(tree, expected):
    (problem,) = problems(BASE | tree)
    assert expected in problem


@pytest.mark.parametrize("tree", [{}, {"model": {}}])
def test_missing_key_is_named(tree):
    (problem,) = problems(tree)
    assert problem == "config.model.variant is missing; expected str"


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


@pytest.mark.parametrize("text", ["5", "adam"])
def test_override_of_a_section_with_a_value_is_refused(text):
    (problem,) = problems(BASE, {"optimizer": text})
    assert problem.startswith("config.optimizer is ") and text in problem
    assert problem.endswith("expected a section with keys")


@pytest.mark.parametrize("tree", [BASE, BASE | {"teacher": None}])
def test_override_inside_an_absent_optional_section_makes_the_section(tree):
    assert override("teacher.variant", "g", tree) == "g"
    (problem,) = problems(tree, {"teacher.width": "3"})
    assert problem == "config.teacher.variant is missing; expected str"


def test_optional_section_is_taken_away_by_none():
    tree = BASE | {"teacher": {"variant": "g"}}
    assert resolve(Run, tree).teacher == Model(variant="g")
    assert resolve(Run, tree, {"teacher": "none"}).teacher is None


def test_part_of_a_section_leaves_the_rest_of_its_default():
    expected = Tuned(optimizer=Optimizer(learning_rate=7.0, name="sgd", betas=(0.5, 0.5)))
    assert resolve(Tuned, {}) == Tuned()
    assert resolve(Tuned, {}, {"optimizer.betas": "(0.5, 0.5)"}) == expected
    assert resolve(Tuned, {"optimizer": {"betas": (0.5, 0.5)}}) == expected


def test_resolved_config_survives_json():
    tree = {
        "model": {"variant": "L", "sizes": (1, 2)},
        "optimizer": {"decay": (("a", 1.0), ("b", 0.1))},
        "share": None,
    }
    config = resolve(Run, tree)
    plain = to_dict(config)
    assert resolve(Run, plain) == config
    assert json.loads(json.dumps(plain)) == plain
    assert plain["optimizer"]["decay"] == [["a", 1.0], ["b", 0.1]]


def test_pretraining_config_survives_json():
    overrides = {"train.batch_size": "48", "model.width": "36"}
    config = resolve(PretrainConfig, load_file(str(DIGITS)), overrides)
    assert config.train.batch_size == 48 and config.model.width == 36
    patterns, decays = zip(*config.optimizer.weight_decay, strict=True)
    assert patterns == ("classifier/kernel$", "kernel$")
    assert decays == pytest.approx((9e-3, 9e-5))
    plain = json.loads(json.dumps(to_dict(config)))
    assert resolve(PretrainConfig, plain) == config


def test_every_mistake_in_a_pretraining_config_is_reported_at_once():
    overrides = {
        "model.variant": "nope/2",
        "model.channels": "2",
        "train.batch_size": "many",
        "train.log_evry": "5",
        "data.view.crop_area": "(0.5, 2.0)",
        "optimizer.learning_rate": "-1",
        "schedule.kind": "cosin",
        "mesh.data": "0",
    }
    found = problems(load_file(str(DIGITS)), overrides, PretrainConfig)
    for part in (
        "config.model.channels is",
        "config.train.batch_size is 'many'",
        "did you mean config.train.log_every?",
        "config.data.view: crop_area",
        "config.optimizer: learning_rate",
        "config.schedule.kind is 'cosin'",
        "config.mesh: mesh sizes",
    ):
        assert sum(part in problem for problem in found) == 1, part


def test_unknown_variant_is_a_problem_of_the_model():
    (problem,) = problems(load_file(str(DIGITS)), {"model.variant": "nope/2"}, PretrainConfig)
    assert problem.startswith("config.model: ") and "nope/2" in problem


def test_negative_seed_is_refused():
    # NumPy's and Grain's generators, which it is handed to, accept none.
    (problem,) = problems(load_file(str(DIGITS)), {"seed": "-1"}, PretrainConfig)
    assert "seed" in problem


def test_describe_lists_every_leaf_with_type_and_default():
    rows = {key: rest for key, *rest in describe(Run)}
    assert rows["config.seed"] == ["int", "0"]
    assert rows["config.share"] == ["float | None", "0.5"]
    assert rows["config.model.variant"] == ["str", "required"]
    assert rows["config.optimizer.name"] == ["'adam' | 'sgd'", "'adam'"]
    assert rows["config.teacher.channels"] == ["1 | 3", "3"]
    assert len(rows) == 3 + 6 + 4 + 6


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.py"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_config_file_gives_nested_dictionaries(write):
    path = write(
        "import ml_collections\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(dict(a=dict(b=(1, 2)), c='x'))\n"
    )
    assert load_file(path) == {"a": {"b": (1, 2)}, "c": "x"}


def test_config_file_may_give_a_plain_dictionary(write):
    assert load_file(write("def get_config():\n    return dict(a=1)\n")) == {"a": 1}


def test_argument_after_the_colon_reaches_the_file(write):
    path = write("def get_config(size='B'):\n    return dict(size=size)\n")
    assert load_file(path) == {"size": "B"}
    assert load_file(f"{path}:L/16") == {"size": "L/16"}
    assert load_file(f"{path}:a:b") == {"size": "a:b"}


def test_missing_config_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none.py' does not exist"):
        load_file(f"{tmp_path}/none.py")


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n", "does not run.*line 1"),
        ("import no_such_module\n", "does not run.*no_such_module"),
        ("value = nothing\n", "does not run.*nothing"),
        ("def config():\n    return {}\n", "has no function get_config"),
        ("", "has no function get_config"),
    ],
)
def test_broken_config_file_says_what_is_wrong(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        load_file(path)
    assert path in str(caught.value)


def test_file_that_is_not_python_is_refused(write):
    with pytest.raises(UserError, match="not a Python file"):
        load_file(write("a: 1\n", "config.yaml"))


def test_directory_is_no_config_file(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_file(str(tmp_path))


def test_argument_a_file_does_not_take_is_refused(write):
    path = write("def get_config():\n    return {}\n")
    with pytest.raises(UserError, match="takes no argument, but got 'L'"):
        load_file(f"{path}:L")


def test_argument_a_file_refuses_is_refused_in_its_words(write):
    path = write("def get_config(size='B'):\n    raise ValueError(f'no size {size}; take B')\n")
    with pytest.raises(UserError, match="no size L; take B"):
        load_file(f"{path}:L")


def test_argument_a_file_needs_is_asked_for(write):
    path = write("def get_config(size):\n    return dict(size=size)\n")
    with pytest.raises(UserError, match="argument"):
        load_file(path)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vit.configure("B/16", head="gpa"), "head must be one of 'map', 'gap', 'cls'"),
        (lambda: vit.configure("B/16", remat="dot"), "remat must be one of"),
        (lambda: OptimizerConfig(name="adamw"), "name must be one of 'adafactor', 'adam'"),
        (lambda: ScheduleConfig(kind="cosin"), "kind must be one of"),
    ],
)
def test_choices_are_checked_without_a_config_file_too(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_config_of_an_earlier_version_gets_the_defaults_of_newer_keys():
    config = resolve(PretrainConfig, load_file(str(DIGITS)))
    recorded = to_dict(config)
    del recorded["seed"], recorded["data"]["exif_orientation"], recorded["transfer"]
    del recorded["data"]["view"]["eval_crop"], recorded["train"]["total_steps"]
    completed = with_defaults(config, recorded)
    assert completed["data"]["exif_orientation"] is False
    # The default, not what the config has now.
    assert config.data.view.eval_crop == 1.0
    assert completed["data"]["view"]["eval_crop"] is None
    assert completed["train"]["total_steps"] is None
    assert "source" in completed["data"] and completed["seed"] == 0
    assert with_defaults(config, to_dict(config)) == to_dict(config)
