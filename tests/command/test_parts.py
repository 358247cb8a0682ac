"""One of several runs of a command goes on from an earlier checkpoint."""

import shutil

import numpy as np
import pytest
from support import final_params, pretrain_config, run_command

from distill.command.parts import parts_in, telling_parts, workdir_of_parts
from distill.errors import Damaged, UserError
from pipelines import pretrain


@pytest.fixture
def several(teacher_workdir, tmp_path):
    """A directory of two runs, of which the first has a damaged checkpoint."""
    for name in ("teacher", "S/trunk"):
        shutil.copytree(teacher_workdir, tmp_path / name)
    for file in (tmp_path / "teacher/checkpoints/10/params").rglob("*"):
        if file.is_file() and file.stat().st_size > 300:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
    return tmp_path


def train(workdir):
    with telling_parts(workdir.path):
        return pretrain.run(pretrain_config(), workdir.below("teacher"), overview=False)


def test_a_damaged_part_is_told_with_the_flag_and_goes_on_by_it(several, teacher_workdir):
    with pytest.raises(Damaged, match=r"PART@STEP, PART being one of S/trunk, teacher"):
        train(workdir_of_parts(str(several), None))
    train(workdir_of_parts(str(several), "teacher@5"))
    assert (several / "teacher/damaged/1/checkpoints/10").is_dir()
    assert not (several / "S/trunk/damaged").exists()
    ours, theirs = final_params(several / "teacher"), final_params(teacher_workdir)
    np.testing.assert_array_equal(ours["classifier"]["kernel"], theirs["classifier"]["kernel"])


@pytest.mark.parametrize("asked", ["teachr@5", "teacher", "5", "teacher@x", "@5"])
def test_a_part_that_is_none_is_refused_with_those_that_are(several, asked):
    assert parts_in(several) == ["S/trunk", "teacher"]
    with pytest.raises(UserError, match=r"expected PART@STEP.*are S/trunk, teacher"):
        workdir_of_parts(str(several), asked)


def test_the_commands_have_the_flag(tmp_path):
    done = run_command("demo", f"--workdir={tmp_path}", "--resume_from=teacher@5")
    assert done.returncode == 2
    assert f"Runs in {tmp_path} are none" in done.stderr
    assert "--resume_from" in run_command("scaling_study", "--help").stdout
