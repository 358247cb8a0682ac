"""What a run is damaged by is named, with the command that goes on without it."""

import contextlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support import REPOSITORY, TINY, final_params, pretrain_config, run_command, without_timings

from benchmarks import bit_flips
from distill.checksums import FILE
from distill.errors import Damaged, UserError
from distill.json_files import read_json, write_json
from distill.train import metrics
from distill.train.best import Best
from distill.train.checkpoints import Checkpoints
from distill.train.damage import newest_sound, set_aside, steps_in
from distill.train.workdir import Workdir, read_classes, read_config, read_summary, read_teachers
from pipelines import pretrain

RUN = dict(
    model__depth=1,
    train__total_steps=6,
    train__checkpoint_every=2,
    train__eval_every=2,
    train__log_every=1,
    train__keep_best="val/accuracy",
)
LAST = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("whole")
    pretrain.run(pretrain_config(**RUN), Workdir(workdir), overview=False)
    return workdir


@pytest.fixture
def workdir(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def train(workdir: Path, resume_from: int | None = None) -> None:
    run = Workdir(workdir, resume_from=resume_from)
    pretrain.run(pretrain_config(**RUN), run, overview=False)


def damage(checkpoint: Path, item: str = "params") -> Path:
    """Flips a bit in the largest file of an item."""
    files = [file for file in bit_flips.files_below(checkpoint / item) if file.name != FILE]
    # What Orbax leaves beside an item says nothing.
    file = max(files, key=lambda file: file.stat().st_size * (file.name != "commit_success.txt"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file


def assert_same_run(one: Path, other: Path) -> None:
    rows, expected = (without_timings(metrics.read(path)) for path in (one, other))
    assert rows == expected
    assert steps_in(one / "checkpoints") == steps_in(other / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, final_params(one), final_params(other))
    summaries = without_timings([read_json(path / "summary.json") for path in (one, other)])
    assert summaries[0] == summaries[1]


def test_single_flipped_bits_of_a_checkpoint_are_refused_or_change_nothing(tmp_path):
    state, abstract = bit_flips.small_state()
    bit_flips.save(tmp_path, state)
    found = bit_flips.count(tmp_path, abstract, flips=25, seed=1)
    came = [came for (_, came), count in found.items() for _ in range(count)]
    assert set(came) == {"refused", "same"} and came.count("refused") > 12


@pytest.mark.parametrize("item", ["params", "optimizer", "progress"])
def test_a_damaged_newest_checkpoint_is_left_behind_with_the_command_that_is_told(
    whole, workdir, item
):
    file = damage(workdir / "checkpoints" / str(LAST), item)
    with pytest.raises(Damaged) as caught:
        train(workdir)
    told = str(caught.value)
    assert f"the checkpoint of step {LAST} in {workdir} is damaged: " in told
    assert f"damaged: {file.relative_to(workdir)} has " in told
    assert "The checkpoint of step 4 is sound" in told and "--resume_from=4" in told
    assert caught.value.exit_code == 1
    # Nothing was trained on, and nothing was thrown away.
    assert metrics.read(workdir) == metrics.read(whole)

    if item == "params":
        train(workdir, resume_from=4)
        kept = workdir / "damaged" / "1"
        assert (kept / file.relative_to(workdir)).is_file()
        assert (kept / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
        assert_same_run(workdir, whole)


def test_the_command_ends_with_one_message_and_takes_the_flag(workdir):
    damage(workdir / "checkpoints" / str(LAST))
    overrides = TINY | {key.replace("__", "."): str(value) for key, value in RUN.items()}
    command = [
        "pretrain",
        f"--config={REPOSITORY / 'configs/pretrain/digits.py'}",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in overrides.items()),
    ]
    done = run_command(*command)
    assert done.returncode == 1
    assert "error: the checkpoint of step 6" in done.stderr and "Traceback" not in done.stderr
    done = run_command(*command, "--resume_from=5")
    assert done.returncode == 2
    assert "no checkpoint of step 5" in done.stderr and "it has 2, 4, 6" in done.stderr
    done = run_command("evaluate", f"--workdir={workdir}")
    assert done.returncode == 1 and "--resume_from=4" in done.stderr
    done = run_command(*command, "--resume_from=4")
    assert done.returncode == 0, done.stderr
    assert f"kept aside in {workdir}/damaged/1: checkpoints/6, summary.json" in done.stderr
    # Left in a script, the flag throws nothing away.
    done = run_command(*command, "--resume_from=4")
    assert done.returncode == 2 and "the checkpoint of step 6 is sound, and later" in done.stderr


def test_of_several_damaged_checkpoints_the_newest_sound_one_is_told(workdir):
    for step in (4, 6):
        damage(workdir / "checkpoints" / str(step))
    assert newest_sound(workdir) == 2
    with pytest.raises(Damaged, match="--resume_from=2"):
        set_aside(workdir, 4)
    assert set_aside(workdir, 2) == ["checkpoints/4", "checkpoints/6", "summary.json"]
    assert steps_in(workdir / "checkpoints") == [2]


def test_where_nothing_is_sound_the_run_begins_anew(workdir):
    shutil.rmtree(workdir / "checkpoints/2/optimizer")
    (workdir / "checkpoints/4/progress" / FILE).unlink()
    damage(workdir / "checkpoints/6", "optimizer")
    assert newest_sound(workdir) is None
    with pytest.raises(Damaged, match=r"no sound checkpoint .*--resume_from=0 to begin anew"):
        train(workdir)
    set_aside(workdir, 0)
    assert steps_in(workdir / "checkpoints") == []


READ = {
    "config.json": read_config,
    "classes.json": read_classes,
    "summary.json": read_summary,
    "teachers.json": read_teachers,
}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[]", b'{"a": 1, "a": 1}'])
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_of_a_run_is_named_with_what_to_do(tmp_path, whole, name, content):
    (tmp_path / "checkpoints").symlink_to(whole / "checkpoints")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Damaged, match=rf"{tmp_path / name} is damaged(.|\n)*--resume_from=6"):
        READ[name](tmp_path)


@pytest.mark.parametrize("name", ["config.json", "classes.json", "data.json", "summary.json"])
def test_what_a_run_can_write_anew_is_kept_aside_and_written(whole, workdir, name):
    file = workdir / name
    file.write_bytes(file.read_bytes().replace(b"3", b"4", 1).replace(b"0", b"1", 1))
    with pytest.raises(Damaged, match=rf"{name} is damaged"):
        train(workdir)
    assert set_aside(workdir, LAST) == [name]
    if name == "summary.json":
        train(workdir)
        assert_same_run(workdir, whole)


def test_damaged_best_weights_are_not_kept(workdir):
    (step,) = steps_in(workdir / "best")
    damage(workdir / "best" / str(step))
    # A run that is complete does not look at them.
    (workdir / "summary.json").unlink()
    with pytest.raises(Damaged, match=rf"the best weights, of step {step} (.|\n)*--resume_from=6"):
        train(workdir)
    assert set_aside(workdir, LAST) == [f"best/{step}"]


def test_how_good_the_best_weights_were_is_checked(workdir):
    (step,) = steps_in(workdir / "best")
    kept = workdir / "best" / str(step) / "metrics" / "metrics"
    said = json.loads(kept.read_text())
    (workdir / "summary.json").unlink()
    kept.write_text(json.dumps(said | {"value": said["value"] + 0.5}))
    with pytest.raises(Damaged, match="metrics is damaged: it does not say what was written"):
        train(workdir)


def test_a_later_sound_checkpoint_is_never_thrown_away(workdir):
    damage(workdir / "checkpoints/4")
    with pytest.raises(UserError, match="the checkpoint of step 6 is sound, and later"):
        set_aside(workdir, 2)
    assert set_aside(workdir, LAST) == [] and not (workdir / "damaged").exists()


def test_checkpoints_of_earlier_versions_are_read_and_it_is_said(whole, workdir, capsys):
    for file in workdir.rglob(FILE):
        file.unlink()
    for name in ("config.json", "classes.json", "data.json", "summary.json"):
        write_json(workdir / name, read_json(workdir / name))
    train(workdir)
    assert "was saved without checksums, by an earlier version" in capsys.readouterr().err
    assert_same_run(workdir, whole)


def test_a_damaged_checkpoint_of_an_earlier_version_is_no_traceback_either(workdir):
    for file in workdir.rglob(FILE):
        file.unlink()
    (workdir / "checkpoints/6/params/manifest.ocdbt").write_bytes(b"")
    with pytest.raises(Damaged, match=r"the checkpoint of step 6 .* has no checksums"):
        train(workdir)
    progress = workdir / "checkpoints/4/progress/metadata"
    progress.write_text(progress.read_text().replace("training_seconds", "training_sezonds"))
    set_aside(workdir, 4)
    with pytest.raises(Damaged, match="its progress does not say training_seconds"):
        train(workdir)


def test_a_damaged_line_of_metrics_is_named_and_the_run_goes_on_without_it(workdir):
    file = workdir / metrics.FILE
    lines = file.read_bytes().splitlines(keepends=True)
    for bad in (b'{"step": 2, "train\xffloss": 1}\n', b'{"stop": 2}\n', b'{"step": 2, "a": "x"}\n'):
        file.write_bytes(b"".join([lines[0], bad, *lines[2:]]))
        with pytest.raises(Damaged, match=f"line 2 of {file} is damaged(.|\n)*sed -i 2d {file}"):
            metrics.read(workdir)
    file.write_bytes(b"".join([lines[0], *lines[2:], b'{"step": 7, "tr']))
    assert [row["step"] for row in metrics.read(workdir)] == [1, 3, 4, 5, 6]


def test_items_are_sound_alone(workdir):
    """Who reads parameters does not look at what only training reads."""
    damage(workdir / "checkpoints/6", "optimizer")
    params = final_params(workdir)
    assert jax.tree.leaves(params)
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        assert checkpoints.latest_step == 6


@pytest.mark.parametrize(
    "content", [b"", b'{"metric": "val/acc', b"[]", b'{"metric": "val/accuracy"}']
)
def test_weights_that_do_not_say_what_they_were_kept_for_are_refused_by_readers(workdir, content):
    (step,) = steps_in(workdir / "best")
    file = workdir / "best" / str(step) / "metrics" / "metrics"
    file.write_bytes(content)
    done = run_command("evaluate", f"--workdir={workdir}", "--best")
    assert done.returncode == 1
    assert f"the best weights, of step {step}" in done.stderr and str(file.name) in done.stderr


@pytest.mark.parametrize("name", ["checkpoints", "best"])
def test_a_file_in_a_directorys_place_is_refused_before_rows_are_cut(workdir, name):
    shutil.rmtree(workdir / name)
    (workdir / name).touch()
    rows = (workdir / "metrics.jsonl").read_bytes()
    with pytest.raises(Damaged, match=f"{name} is damaged: it is a file where a directory"):
        # A complete run does not look at its best weights.
        if name == "best":
            Best(workdir, "val/accuracy")
        else:
            train(workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == rows


def test_a_complete_run_without_checkpoints_is_not_trained_over(workdir, whole):
    shutil.rmtree(workdir / "checkpoints")
    rows = (workdir / "metrics.jsonl").read_bytes()
    with pytest.raises(Damaged, match=r"checkpoints has none.*--resume_from=0 to begin anew"):
        train(workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == rows
    train(workdir, resume_from=0)
    assert (workdir / "damaged" / "1" / "summary.json").exists()
    assert_same_run(workdir, whole)


def test_a_checkpoint_under_another_steps_name_is_refused(workdir, whole):
    (workdir / "summary.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / str(LAST))
    shutil.copytree(workdir / "checkpoints" / "4", workdir / "checkpoints" / str(LAST))
    with pytest.raises(
        Damaged, match=r"checkpoints/6 holds the state of step 4\n.*step 4 is sound"
    ):
        train(workdir)
    train(workdir, resume_from=4)
    assert_same_run(workdir, whole)
