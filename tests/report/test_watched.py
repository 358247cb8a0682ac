"""What is told of a run while it trains, from files that may be half written or gone."""

import fcntl
import os
import subprocess
import sys
import time

import pytest
from pages import Page
from watched_run import begin, row, write

from distill.report import html
from distill.report.watched import content, is_locked, runs_in, status, version, watched

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def workdir(tmp_path):
    """A run of 60 steps that has logged two."""
    path = tmp_path / "run"
    begin(path)
    return path


def make_old(path):
    for file in path.iterdir():
        os.utime(file, (1, 1))


@pytest.fixture
def at_work(workdir):
    """Another process that holds the workdir, as a run does."""
    (workdir / ".lock").touch()
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'wb')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, workdir / ".lock"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def page(path, now=None):
    runs = {name: watched(one) for name, one in runs_in(path).items()}
    return Page(html.page(path.name, status(runs, now), content(runs)))


def test_a_run_goes_through_its_states(workdir, at_work):
    assert watched(workdir / "nothing").state == "not begun"
    make_old(workdir)
    assert watched(workdir).state == "running"
    at_work.kill()
    at_work.wait()
    assert watched(workdir).state == "stopped"
    (workdir / "summary.json").write_text("{}")
    assert watched(workdir).state == "finished"


def test_looking_leaves_the_lock_to_others(workdir, at_work):
    assert is_locked(workdir) is True
    at_work.kill()
    at_work.wait()
    assert is_locked(workdir) is False
    with (workdir / ".lock").open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert is_locked(workdir / "nothing") is None


def test_what_is_left_is_the_steps_at_the_speed_of_late(workdir):
    write(workdir, row(1, 5.0), *(row(n, 200.0) for n in range(2, 21)))
    now = watched(workdir)
    assert (now.step, now.steps, now.batch_size) == (20, 60, 50)
    assert now.seconds_left == pytest.approx(40 * 50 / 200)
    texts = " ".join(page(workdir, time.time() + 65).texts)
    assert "step 20/60 (33%)" in texts and "about 10s to go" in texts
    assert "last line 1:0" in texts


def test_a_line_that_is_half_written_is_left_out_until_it_is_whole(workdir):
    write(workdir, row(1), row(20), rest='{"step": 21, "train/lo')
    before = version(runs_in(workdir))
    assert watched(workdir).step == 20
    write(workdir, row(1), row(20), row(21))
    assert watched(workdir).step == 21
    assert version(runs_in(workdir)) != before


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"train": 3}', '{"train": {"odd": 1}}'])
def test_a_config_that_cannot_be_read_costs_the_progress_alone(workdir, damaged):
    (workdir / "config.json").write_text(damaged)
    now = watched(workdir)
    assert now.steps is None and now.step == 20
    assert "step 20" in page(workdir).texts


def test_the_versions_differ_where_anything_does(workdir):
    seen = {version(runs_in(workdir))}
    for name in ("train.log", "summary.json", "report.html"):
        (workdir / name).write_text("x")
        seen.add(version(runs_in(workdir)))
    (workdir / "summary.json").unlink()
    seen.add(version(runs_in(workdir)))
    assert len(seen) == 5
    assert version(runs_in(workdir)) in seen


def test_several_students_are_shown_beside_each_other(tmp_path, workdir):
    for name in ("large", "small"):
        begin(tmp_path / "all" / name, row(1), row(3))
    assert [*runs_in(tmp_path / "all")] == ["large", "small"]
    found = page(tmp_path / "all")
    first = found.data[0]
    assert [one["name"] for one in first["series"]] == ["large", "small"]
    assert [*runs_in(workdir)] == ["run"]


def test_what_is_in_files_is_text(workdir):
    write(workdir, row(1, **{f"val/{HOSTILE}": 1.0}), row(20))
    (workdir / "train.log").write_text(f"{HOSTILE}\n\udcff\n", errors="surrogateescape")
    found = page(workdir)
    assert len(found.scripts) == 1
    assert any(HOSTILE in text for text in found.texts)
