"""What a run printed, as its workdir keeps it."""

import contextlib
import io
import json
import logging
import sys

import pytest
from support import arguments, run_command, run_python

from distill.errors import RunFailed, UserError
from distill.parallel import distributed
from distill.parallel.printed import keep, say, verbose
from distill.train.checkpoints import Checkpoints
from distill.train.loop import Stopped
from distill.train.progress import Progress
from distill.train.train_log import train_log
from distill.train.workdir import Workdir

ROW = {"train/loss": 0.5, "train/images_per_second": 100.0, "train/data_wait": 0.0}


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim({"seed": 0})
    return workdir


def kept(workdir: Workdir) -> list[str]:
    return (workdir.path / "train.log").read_text(encoding="utf-8").splitlines()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_run_keeps_everything_it_printed_from_introduction_to_report(teacher_workdir):
    lines = (teacher_workdir / "train.log").read_text().splitlines()
    assert lines[0] == "pretrain: parameters"
    assert any("encoder/blocks/mlp_in/kernel" in line for line in lines)
    assert any("val/top5_accuracy" in line and "10/10" in line for line in lines)
    assert sum(" loss " in line and "ETA" in line for line in lines) == 6
    assert lines[-1] == f"pretrain: report{' ' * 18}{teacher_workdir / 'report.html'}"


def test_lines_are_kept_as_they_are_printed_and_before_the_end(workdir, capsys):
    with train_log(workdir):
        say("distill: 10% of one image")
        Progress("distill", 10, float).show(5, {"student": ROW})
        assert kept(workdir) == capsys.readouterr().err.splitlines()
    say("afterwards")
    assert len(kept(workdir)) == 2


def test_details_are_kept_and_printed_if_asked_for(workdir, capsys):
    with train_log(workdir):
        keep("a table")
        say("0.9", detailed="0.9 and more")
        assert capsys.readouterr().err == "0.9\n"
        with verbose():
            keep("a table")
            say("0.9", detailed="0.9 and more")
        assert capsys.readouterr().err.splitlines() == ["a table", "0.9 and more"]
        keep("quiet again")
    assert capsys.readouterr().err == ""
    assert kept(workdir) == ["a table", "0.9 and more"] * 2 + ["quiet again"]


def test_what_a_terminal_is_told_beside_the_text_is_left_out(workdir, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with train_log(workdir):
        line = Progress("distill", 10, float)
        line.show(1, {"student": ROW})
        line.show(2, {"student": ROW})
        say("a name with \x1b[31mcolour\x1b[0m and \x07 bell")
    assert "\033[K" in terminal.getvalue()
    first, second, third = kept(workdir)
    assert first.startswith("distill 1/10") and second.startswith("distill 2/10")
    assert third == "a name with colour and  bell"


def test_warnings_of_any_library_are_kept(workdir):
    with train_log(workdir):
        logging.getLogger("some.library").warning("skipped %d images", 3)
        logging.getLogger("some.library").info("nothing that is shown")
    assert kept(workdir) == ["warning: skipped 3 images"]


def test_warnings_are_still_shown_where_nobody_set_up_logging(tmp_path):
    code = (
        "import sys, logging; from distill.train.train_log import train_log;"
        "from distill.train.workdir import Workdir\n"
        "with train_log(Workdir(sys.argv[1])): logging.getLogger('a').warning('seen')"
    )
    done = run_python("-c", code, tmp_path)
    assert done.returncode == 0 and "seen" in done.stderr


def test_a_resumed_run_appends(workdir):
    for message in ("first", "second"):
        with train_log(workdir):
            say(message)
    assert kept(workdir) == ["first", "second"]


def test_every_student_has_its_log(tmp_path):
    workdirs = [Workdir(tmp_path / name) for name in ("a", "b")]
    with train_log(*workdirs):
        say("of both")
        for workdir in workdirs:
            workdir.claim({})
        say("begun")
    assert [kept(workdir) for workdir in workdirs] == [["of both", "begun"]] * 2


def test_a_workdir_of_another_run_is_left_alone(workdir):
    with (
        pytest.raises(UserError, match="another config"),
        train_log(again := Workdir(workdir.path)),
    ):
        say("introduction")
        again.claim({"seed": 1})
    assert not (workdir.path / "train.log").exists()


@pytest.mark.parametrize(
    "error, last",
    [
        (RunFailed("the loss is nan"), "error: the loss is nan"),
        (Stopped("stopped by SIGTERM after step 5 of 10"), "stopped by SIGTERM after step 5 of 10"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("by nothing"), "ZeroDivisionError: by nothing"),
    ],
)
def test_the_last_line_says_what_ended_the_run(workdir, error, last):
    with pytest.raises(type(error)), train_log(workdir):
        raise error
    assert kept(workdir)[-1] == last


def test_a_run_goes_on_where_its_log_cannot_be_written_and_says_so_once(workdir, capsys):
    (workdir.path / "train.log").mkdir()
    with train_log(workdir):
        say("one")
        say("two")
    printed = capsys.readouterr().err.splitlines()
    assert printed == [
        "one",
        f"warning: cannot write to {workdir.path}/train.log: Is a directory",
        "two",
    ]


def test_processes_other_than_the_primary_write_nothing(workdir, monkeypatch):
    monkeypatch.setattr(distributed, "is_primary", lambda: False)
    with train_log(workdir):
        say("not here")
        logging.warning("nor here")
    assert not (workdir.path / "train.log").exists()


def test_the_table_of_parameters_is_printed_if_asked_for(tmp_path):
    # Nothing is trained: the warmup is longer than the run.
    flags = arguments("pretrain/digits.py", tmp_path, schedule__warmup_steps=1000)
    quiet, loud = (run_command("pretrain", *flags, *more) for more in ((), ("--verbose",)))
    assert quiet.returncode == loud.returncode == 2
    assert "encoder/blocks/mlp_in/kernel" not in quiet.stderr
    assert "encoder/blocks/mlp_in/kernel" in loud.stderr


def test_a_checkpoint_knows_how_long_evaluations_take(teacher_workdir):
    with contextlib.closing(Checkpoints(teacher_workdir, read_only=True)) as checkpoints:
        (file,) = (teacher_workdir / "checkpoints" / str(checkpoints.latest_step)).glob(
            "progress/metadata"
        )
    # The last ones come after the last step is recorded.
    took = json.loads(file.read_text())["pauses"]
    assert took.keys() == {"network/0", "saving"} and all(0 < one < 600 for one in took.values())
