import dataclasses
import re
from typing import Literal

import pytest
from absl import flags
from support import REPOSITORY, run_command

from distill.command.flags import define_config
from distill.command.help import help_text
from distill.command.launch import launch_training
from distill.errors import UserError
from distill.paths import LocalPath
from pipelines.distill_student import DistillConfig
from pipelines.pretrain import PretrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    shape: Literal["square"] = "square"
    side: float = 1.0
    """Of each of its edges, in metres, which is also what the others are measured in, from one
    corner to the next."""
    filled: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circle:
    shape: Literal["circle"] = "circle"
    radius: float = 1.0
    filled: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """How it goes. And more."""

    rate: float = 0.5
    mode: Literal["fast", "slow"] | None = None
    pairs: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything."""

    name: str
    size: int | None = None
    """How large it is."""
    path: LocalPath | None = None
    section: Section = Section()
    shape: Square | Circle
    """What is drawn."""
    others: dict[str, Section] = dataclasses.field(default_factory=dict)


@pytest.fixture
def values():
    values = flags.FlagValues()
    define_config(values)
    return values


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(name='file'):\n"
        "    config = ml_collections.ConfigDict(dict(name=name, size=3))\n"
        "    config.section = dict(rate=config.get_ref('size') * 2.0, mode='slow')\n"
        "    config.shape = dict(shape='circle', radius=4)\n"
        "    config.others = dict(one=dict(rate=9))\n"
        "    return config\n"
    )
    return path


def entries(text):
    """What is said of each key, by its path, on one line."""
    found, section, key = {}, "", None
    for line in text.partition("Keys of the config")[2].splitlines():
        if header := re.match(r"--config\.(?:(.*)\.)?KEY=VALUE", line):
            section, key = header[1], None
        elif new := re.match(r"  (\S+)  *(.*)", line):
            key = f"{section}.{new[1]}" if section else new[1]
            found[key] = new[2]
        elif key is not None and line.strip():
            found[key] += " " + line.strip()
    return found


def test_every_key_has_its_type_in_words_its_default_and_what_it_is(values):
    found = entries(help_text("Does things.", values, Config))
    assert found["name"] == "text (required)."
    assert found["size"] == "whole number or none (default none). How large it is."
    assert found["path"] == "local path or none (default none)."
    assert found["section.rate"] == "number (default 0.5)."
    assert found["section.mode"] == "one of fast, slow or none (default none)."
    assert found["section.pairs"] == "list of (text, whole number) (default ())."
    assert found["others.NAME.rate"] == "number (default 0.5)."


def test_keys_of_one_of_several_dataclasses_say_whose_they_are(values):
    found = entries(help_text("Does things.", values, Config))
    assert found["shape.shape"] == "one of square, circle (required)."
    assert found["shape.side"].startswith("number (default 1.0). Of shape square. Of each")
    assert found["shape.radius"] == "number (default 1.0). Of shape circle."
    assert found["shape.filled"] == "true or false (default true, of circle false)."


def test_the_values_of_a_config_are_told(values, config_file):
    arguments = ["--help", f"--config={config_file}:given", "--config.others.two.rate=8"]
    found = entries(help_text("Does things.", values, Config, arguments))
    assert found["name"] == "text (given here, required)."
    assert found["size"] == "whole number or none (3 here, default none). How large it is."
    assert found["section.rate"] == "number (6.0 here, default 0.5)."
    assert found["shape.shape"] == "one of square, circle (circle here, required)."
    assert found["shape.radius"] == "number (4 here, default 1.0)."
    assert "shape.side" not in found
    assert found["others.one.rate"] == "number (9 here, default 0.5)."
    assert found["others.two.rate"] == "number (8 here, default 0.5)."
    assert "others.NAME.rate" not in found


def test_an_override_counts_for_what_refers_to_its_key(values, config_file):
    arguments = ["--config", str(config_file), "--config.size=5", "-h"]
    found = entries(help_text("Does things.", values, Config, arguments))
    assert found["size"].startswith("whole number or none (5 here")
    assert found["section.rate"].startswith("number (10.0 here")


def test_help_on_a_config_that_is_not_there_says_so(values):
    with pytest.raises(UserError, match=r"none\.py' does not exist"):
        help_text("Does things.", values, Config, ["--config=none.py", "--help"])


@pytest.mark.parametrize("columns", [72, 100, 300])
def test_lines_fit_the_terminal_and_are_aligned(values, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = help_text("Does things.", values, DistillConfig)
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    block = text[text.index("--config.train.KEY=VALUE") :].partition("\n\n")[0].splitlines()[1:]
    starts = {re.match(r"  (?:\S+|) +", line).end() for line in block if line[2] != " "}
    assert len(starts) == 1


def test_every_key_of_distillation_is_there_in_plain_words(values):
    text = help_text("Distils.", values, DistillConfig)
    found = entries(text)
    assert {"seed", "data.view.crop_area", "optimizer.weight_decay", "mesh.fsdp"} <= found.keys()
    assert {"model.variant", "teacher.weights.path", "students.NAME.model.gated"} <= found.keys()
    for word in ("typing.", "Literal", "tuple[", "Annotated", "dataclass", "<", "MISSING"):
        assert word not in text.partition("Keys of the config")[2].replace("<=", "")


def test_a_config_chooses_the_family_and_the_variant_its_sizes(values):
    config = f"--config={REPOSITORY / 'configs' / 'pretrain' / 'digits.py'}"
    arguments = [config, "--config.model.family=vit", "--config.model.variant=S/2"]
    found = entries(help_text("Pre-trains.", values, PretrainConfig, [*arguments, "--help"]))
    assert "vit here" in found["model.family"] and "model.fused" not in found
    assert found["model.width"].startswith("whole number from 1 to 262,144 (128 here")
    assert found["model.patch_size"].startswith("whole number from 1 to 16,384 (2 here")


def test_help_is_printed_and_nothing_else(capsys):
    for argument in ("--help", "-h"):
        with pytest.raises(SystemExit) as caught:
            launch_training("Trains things.\n\nAt length.", Config, print, [argument])
        out, err = capsys.readouterr()
        assert caught.value.code == 0 and err == ""
        assert out.startswith("Trains things.\n\nAt length.\n\nFlags:\n")
        assert "\n  --workdir " in out and "How large it is." in out


def test_a_command_tells_what_its_own_config_says_of_its_keys():
    done = run_command("scaling_study", "--help")
    assert done.returncode == 0, done.stderr
    assert "Steps, cooldown included; the longest is that of the base." in " ".join(
        done.stdout.split()
    )


def test_each_of_several_kinds_says_what_it_is_and_its_keys(values):
    said = help_text("", values, Config)
    lines = {line.strip() for line in said.splitlines()}
    assert any(re.match(r"shape=square +Keys: side\.", line) for line in lines), said
    assert any(re.match(r"shape=circle +Keys: radius\.", line) for line in lines)


def test_a_config_of_another_command_is_said_to_be_one():
    done = run_command("pretrain", "--help", "--config=distill/digits")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    assert "distill/digits is a config for distill distill_student: it has teacher" in said
    assert "for its own, distill distill_student --help --config=distill/digits" in said
    own = run_command("store_targets", "--help", "--config=distill/digits").stdout
    assert "is a config for" not in own
