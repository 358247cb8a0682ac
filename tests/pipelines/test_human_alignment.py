"""The command `distill human_alignment`."""

import dataclasses
import json

import pytest
from support import REPOSITORY, loaded_by_command, run_python

from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.trials import write_trials
from pipelines import human_alignment


@pytest.fixture
def raw_data(tmp_path):
    own = [
        dataclasses.replace(one, observer="my_model")
        for one in shipped_trials()
        if one.observer == "resnet50" and one.dataset in ("edge", "cue-conflict")
    ]
    write_trials(tmp_path / "raw-data", own)
    return tmp_path / "raw-data"


def called(capsys, *arguments):
    human_alignment.main(list(arguments))
    return capsys.readouterr().out


def test_a_folder_of_trials_becomes_table_json_and_page(raw_data, tmp_path, capsys):
    files = {name: tmp_path / "out" / f"found.{name}" for name in ("json", "html")}
    flags = [f"--{name}={file}" for name, file in files.items()]
    out = called(capsys, f"--raw_data={raw_data}", *flags)
    names = [line.split("  ")[0] for line in out.splitlines()[2:6]]
    assert names[:4] == ["my_model", "resnet50 *", "simclr_resnet50x1 *", "humans"]
    assert "my_model: its means are over 2 of 17 sets" in out
    found = json.loads(files["json"].read_text())
    mine, resnet, _ = found["models"]
    assert mine["shape_bias"] == pytest.approx(0.21419518)
    assert mine["by_dataset"] == resnet["by_dataset"]
    assert mine["cue_conflict"]["shape_answers"] == 169
    assert found["references"] == ["resnet50", "simclr_resnet50x1"]
    assert files["html"].read_text().startswith("<!doctype html>")


def test_the_command_needs_no_jax(raw_data):
    """A second, not ten, until it starts; and no device is taken."""
    heavy = {"jax", "flax", "orbax", "grain", "tensorflow", "matplotlib", "pandas"}
    assert not heavy & loaded_by_command("human_alignment", f"--raw_data={raw_data}")


def test_what_is_wrong_ends_the_command_with_file_and_line(raw_data, tmp_path):
    command = ("-m", "pipelines.human_alignment")
    none = run_python(*command, cwd=REPOSITORY)
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.startswith("error: --raw_data needs a value")
    file = next((raw_data / "edge").glob("*.csv"))
    file.write_text(file.read_text().replace("knife", "spoon", 1))
    output = tmp_path / "found.json"
    flags = (f"--raw_data={raw_data}", f"--json={output}")
    wrong = run_python(*command, *flags, cwd=REPOSITORY)
    assert not output.exists()
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"error: {file}, line ")
    assert "object_response is 'spoon'" in wrong.stderr
    shown = run_python(*command, "--help", cwd=REPOSITORY)
    assert shown.returncode == 0
    assert "--raw_data" in shown.stdout
