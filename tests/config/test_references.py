"""What a config file computes from its own keys follows what the command line changes."""

import dataclasses

import pytest

from distill.config import ConfigError, load_file, resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    rate: float = 0.1
    every: int = 1
    rules: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    batch: int = 1
    rate: float = 0.1
    section: Section = Section()
    other: Section = Section()


FILE = """
from ml_collections import ConfigDict, FieldReference


def get_config():
    rate = FieldReference(0.5)
    config = ConfigDict(dict(batch=8, rate=rate, section=dict(rate=rate / 2, every=1)))
    config.section.rules = (("kernel$", 3.0 * rate), ("bias$", 1.0))
    config.section.every = config.get_ref("batch") * 10
    config.other = config.get_ref("section")
    return config
"""


@pytest.fixture
def tree(tmp_path):
    return load(tmp_path, FILE)


def load(tmp_path, text):
    file = tmp_path / "config.py"
    file.write_text(text)
    return load_file(str(file))


def test_without_overrides_the_files_values_hold(tree):
    section = Section(rate=0.25, every=80, rules=(("kernel$", 1.5), ("bias$", 1.0)))
    assert resolve(Config, tree) == Config(batch=8, rate=0.5, section=section, other=section)


def test_what_is_computed_follows_an_override(tree):
    config = resolve(Config, tree, {"rate": "2", "batch": "4"})
    assert (config.section.rate, config.section.every) == (1.0, 40)
    assert config.section.rules == (("kernel$", 6.0), ("bias$", 1.0))


def test_a_computed_key_can_be_overridden_itself(tree):
    config = resolve(Config, tree, {"section.every": "7", "batch": "4"})
    assert (config.batch, config.section.every) == (4, 7)


def test_a_section_that_two_keys_share_changes_for_both(tree):
    config = resolve(Config, tree, {"section.rate": "9"})
    assert config.other.rate == config.section.rate == 9.0


def test_overrides_leave_the_tree_alone(tree):
    before = resolve(Config, tree)
    resolve(Config, tree, {"rate": "2", "section.every": "3"})
    assert resolve(Config, tree) == before


SAME = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict(dict(rate=0.5, section=dict(rate=0.5)))
    config.section.rate = config.get_ref("rate")
    return config
"""


def test_one_value_by_two_names_is_not_given_twice(tmp_path):
    tree = load(tmp_path, SAME)
    assert resolve(Config, tree, {"section.rate": "2"}).rate == 2.0
    assert resolve(Config, tree, {"section.rate": "2", "rate": "2"}).rate == 2.0
    with pytest.raises(ConfigError, match=r"config\.section\.rate and config\.rate are one value"):
        resolve(Config, tree, {"rate": "1", "section.rate": "2"})


def test_what_cannot_be_computed_any_more_is_a_problem_of_its_key(tree):
    with pytest.raises(ConfigError, match=r"config\.section\.rate is computed from another key"):
        resolve(Config, tree, {"rate": "fast"})


def test_a_required_value_that_is_not_given_is_missing(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Needs:
        steps: int

    tree = load(
        tmp_path,
        "from ml_collections import ConfigDict, config_dict\n\n\ndef get_config():\n"
        "    return ConfigDict(dict(steps=config_dict.required_placeholder(int)))\n",
    )
    with pytest.raises(ConfigError, match=r"config\.steps is missing; expected whole number"):
        resolve(Needs, tree)
    assert resolve(Needs, tree, {"steps": "3"}).steps == 3


@pytest.mark.parametrize("name", ["pretrain/digits", "pretrain/vit_g14", "pretrain/folder"])
def test_the_decay_of_shipped_configs_stays_a_multiple_of_the_learning_rate(name):
    from pipelines.pretrain import PretrainConfig

    tree = load_file(name)
    for rate in ("0.001", "0.5"):
        optimizer = resolve(PretrainConfig, tree, {"optimizer.learning_rate": rate}).optimizer
        decays = [decay / float(rate) for _, decay in optimizer.weight_decay]
        assert decays == pytest.approx([3.0, 0.03])
