"""A source is written once, whatever happens meanwhile."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import jpegs
import numpy as np
import pytest
from process_tasks import doubled, failing, killed
from support import Damaged, run_python, wait_for

from distill.data import open_source
from distill.data.preparing import Preparation, parts, preparation, prepare, processes, verify
from distill.data.preparing.processes import in_processes
from distill.data.sources import jpeg_images
from distill.data.sources.base import MissingSplit
from distill.data.sources.decoding import Decoding
from distill.errors import RunFailed, UserError


@pytest.fixture
def lines():
    return []


@pytest.fixture
def photos(tmp_path):
    """Seven JPEGs in two classes, whose splits are drawn."""
    for number in range(7):
        folder = tmp_path / "photos" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = jpegs.photograph(70, 90, seed=number)
        (folder / f"{number}.jpg").write_bytes(jpegs.pillow(pixels, quality=80))
    return tmp_path / "photos"


def of(source, output, **options):
    options = {"workers": 0, "images_per_shard": 3, "splits": ("train",)} | options
    return Preparation(source=str(source), output=output, **options)


@pytest.fixture
def whole(photos, tmp_path):
    return of(f"folder:{photos}", tmp_path / "output")


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def opened(folder, split="train"):
    return open_source(f"prepared:{folder}", split, channels=3)


def test_it_is_the_same_in_processes_as_in_one(whole, tmp_path, lines):
    prepare(whole, lines.append)
    other = dataclasses.replace(whole, output=tmp_path / "other", workers=2)
    prepare(other, lines.append)
    assert content(whole.output) == content(other.output)
    assert {*content(whole.output)} == {
        "manifest.json",
        "train.index",
        "train.order.npy",
        *(f"train-0000{number}-of-00003.array_record" for number in range(3)),
    }


def test_images_that_are_in_no_files_keep_their_pixels(tmp_path, lines):
    manifest = prepare(of("digits", tmp_path, splits=(), images_per_shard=None), lines.append)
    assert {name: split.images for name, split in manifest.splits.items()} == {
        "train": 1197,
        "validation": 240,
        "test": 360,
    }
    digits, prepared = open_source("digits", "test", channels=1), opened(tmp_path, "test")
    assert prepared.encoded(0).startswith(b"\x89PNG")
    for index in range(0, 360, 30):
        data = prepared.encoded(index)
        np.testing.assert_array_equal(Decoding(channels=1)(data), digits.read(index)["image"])
    np.testing.assert_array_equal(prepared.labels, digits.labels)


def test_without_restart_markers_files_stay_as_they_are(whole, lines):
    manifest = prepare(dataclasses.replace(whole, restarts=False), lines.append)
    assert manifest.splits["train"].marked == 0
    source, prepared = open_source(whole.source, "train", channels=3), opened(whole.output)
    assert all(prepared.encoded(n) == source.encoded(n) for n in range(7))
    with pytest.raises(UserError, match="was not prepared with restart markers"):
        prepare(whole, lines.append)


def test_what_is_left_out_and_what_is_not_kept_is_said(whole, lines, photos, monkeypatch):
    (photos / "train" / "a" / "note.heic").write_bytes(b"x")
    monkeypatch.setattr(preparation, "attributes_of", lambda *_: {"identity": 3, "smiling": True})
    prepare(whole, lines.append)
    assert "train: 7 images in 2 classes; left out 1 .heic" in lines
    (warning,) = (line for line in lines if line.startswith("warning"))
    assert "also says of its images identity, smiling, which prepared data does not" in warning


def test_where_marking_changes_a_pixel_the_file_stays_as_it_is(whole, lines, monkeypatch):
    other = jpegs.pillow(jpegs.photograph(70, 90, seed=99), quality=80)
    monkeypatch.setattr(parts, "with_restarts", lambda data: other)
    assert prepare(whole, lines.append).splits["train"].marked == 0
    verify(whole, lines.append, all_images=True)


def test_a_file_that_takes_too_much_memory_stays_as_it_is(whole, lines, monkeypatch):
    monkeypatch.setattr(parts, "_LONGEST", 100)
    assert prepare(whole, lines.append).splits["train"].marked == 0


def test_splits_that_a_source_lacks_are_left_out_unless_they_are_named(whole, lines):
    prepare(dataclasses.replace(whole, splits=()), lines.append)
    assert [line.partition(":")[0] for line in lines] == [
        "train",
        "there is no validation",
        "there is no test",
    ]
    other = dataclasses.replace(whole, splits=("train", "test"))
    with pytest.raises(MissingSplit, match="has no split 'test'"):
        prepare(other, lines.append)


@pytest.mark.parametrize("split", ["train[:50%]", "train+test", "../train"])
def test_a_split_is_a_whole_one_with_a_plain_name(whole, lines, split):
    with pytest.raises(UserError, match="--split has"):
        prepare(dataclasses.replace(whole, splits=(split,)), lines.append)


def test_the_same_command_again_does_nothing(whole, lines):
    prepare(whole, lines.append)
    before = content(whole.output)
    times = {file: file.stat().st_mtime_ns for file in whole.output.iterdir()}
    prepare(whole, lines.append)
    assert "holds all of it already" in lines[-1]
    assert content(whole.output) == before
    assert {file: file.stat().st_mtime_ns for file in whole.output.iterdir()} == times


def test_a_shard_that_is_missing_is_written_anew(whole, lines):
    prepare(whole, lines.append)
    before = content(whole.output)
    (whole.output / "train-00001-of-00003.array_record").unlink()
    prepare(whole, lines.append)
    assert "1 shard written anew" in lines[-1]
    assert content(whole.output) == before


def test_a_directory_that_holds_something_else_is_refused(whole, lines):
    whole.output.mkdir()
    (whole.output / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds something else \(thesis.tex\)"):
        prepare(whole, lines.append)
    assert {*content(whole.output)} == {"thesis.tex"}


def test_a_directory_in_the_source_is_refused(whole, lines, photos):
    with pytest.raises(UserError, match="lies in the source itself"):
        prepare(dataclasses.replace(whole, output=photos / "output"), lines.append)


def test_a_file_in_place_of_a_directory_is_refused(whole, lines):
    whole.output.touch()
    with pytest.raises(UserError, match=r"--output: cannot write to .*: File exists"):
        prepare(whole, lines.append)


def test_another_source_is_refused(whole, lines, photos):
    prepare(whole, lines.append)
    with pytest.raises(UserError, match="does not hold split 'validation' of digits"):
        prepare(of("digits", whole.output, splits=("validation",)), lines.append)
    (photos / "train/a/0.jpg").write_bytes(b"other")
    with pytest.raises(UserError, match="holds another split 'train'"):
        prepare(whole, lines.append)


class Interrupted(Exception):
    pass


def interrupt(whole, lines, monkeypatch, after=5):
    """Prepares so many images."""
    encoded, seen = parts.encoded_image, []

    def some(source, index):
        if len(seen) == after:
            raise Interrupted
        seen.append(index)
        return encoded(source, index)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(parts, "encoded_image", some)
        prepare(whole, lines.append)
    assert not (whole.output / "manifest.json").exists()


def read_again(whole, lines, monkeypatch):
    """Goes on; which images are encoded."""
    encoded, seen = parts.encoded_image, []

    def noted(source, index):
        seen.append(index)
        return encoded(source, index)

    with monkeypatch.context() as patched:
        patched.setattr(parts, "encoded_image", noted)
        prepare(whole, lines.append)
    return seen


def test_finished_shards_are_kept(whole, lines, monkeypatch, tmp_path):
    interrupt(whole, lines, monkeypatch)
    assert read_again(whole, lines, monkeypatch) == [3, 4, 5, 6]
    other = dataclasses.replace(whole, output=tmp_path / "other")
    prepare(other, lines.append)
    assert content(whole.output) == content(other.output)


def test_a_finished_shard_that_is_damaged_is_written_anew(whole, lines, monkeypatch):
    interrupt(whole, lines, monkeypatch)
    file = whole.output / "train-00000-of-00003.array_record"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    assert read_again(whole, lines, monkeypatch) == [0, 1, 2, 3, 4, 5, 6]


def test_a_note_that_is_damaged_is_not_trusted(whole, lines, monkeypatch):
    interrupt(whole, lines, monkeypatch)
    note = whole.output / "unfinished/train-00000-of-00003.array_record.json"
    note.write_text(json.dumps({"size": 3}))
    assert read_again(whole, lines, monkeypatch) == [0, 1, 2, 3, 4, 5, 6]


def test_it_does_not_go_on_with_a_source_that_has_changed(whole, lines, monkeypatch, photos):
    interrupt(whole, lines, monkeypatch)
    (photos / "train/a/0.jpg").write_bytes(b"other")
    with pytest.raises(UserError, match=r"holds other data that is not finished \(splits differ\)"):
        prepare(whole, lines.append)


@pytest.mark.parametrize("same_size", [False, True])
def test_a_source_that_changes_meanwhile_is_noticed(whole, lines, monkeypatch, photos, same_size):
    file = photos / "train/a/0.jpg"
    content = bytes(file.stat().st_size) if same_size else b"other"
    monkeypatch.setattr(preparation, "in_processes", lambda *arguments: file.write_bytes(content))
    with pytest.raises(RunFailed, match="has changed while it was prepared"):
        prepare(whole, lines.append)
    assert not (whole.output / "manifest.json").exists()


def test_two_do_not_write_to_one_directory(whole, lines, monkeypatch):
    def write(*arguments):
        prepare(whole, lines.append)

    monkeypatch.setattr(preparation, "in_processes", write)
    with pytest.raises(UserError, match="another process is writing"):
        prepare(whole, lines.append)


# A file as large as it is let be is to a writer what a full disk is.
LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
from distill.data.preparing import Preparation, prepare
from distill.errors import RunFailed
from pathlib import Path
try:
    prepare(Preparation(source={source!r}, output=Path({output!r}), workers=0), print)
except RunFailed as error:
    print("failed:", error)
"""


def test_a_full_disk_is_said_and_what_is_finished_stays(whole, lines):
    script = LIMITED.format(source=whole.source, output=str(whole.output))
    done = run_python("-c", script)
    assert "failed:" in done.stdout, done.stderr
    assert "array_record cannot be written: " in done.stdout
    assert "free space, or mend the disk, and run the same command again" in done.stdout
    prepare(dataclasses.replace(whole, images_per_shard=None), lines.append)
    verify(whole, lines.append, all_images=True)


def test_corrupt_images_are_kept_and_said(whole, lines, photos):
    for number in range(5):
        cut = (photos / "train/a/0.jpg").read_bytes()[: -9 * number - 9]
        (photos / f"train/a/cut{number}.jpg").write_bytes(cut)
    manifest = prepare(whole, lines.append)
    assert manifest.splits["train"].corrupt == 5 and str(lines).count("corrupt image ") == 3
    assert lines[-1] == "warning: 2 other images of train are corrupt"
    verify(whole, lines.append, all_images=True)


def test_images_that_cannot_be_decoded_by_a_source_without_files_are_empty():
    source = Damaged(open_source("digits", "test", channels=1), {3})
    encoded = functools.partial(parts.encoded_image, source, 3)
    assert parts._prepared(encoded, True, 100) == (b"", False, "truncated")


def test_what_differs_from_the_source_is_named(whole, lines):
    prepare(whole, lines.append)
    assert verify(whole, lines.append, all_images=False) == 7
    assert verify(whole, lines.append, all_images=True) == 7
    other = jpegs.pillow(jpegs.photograph(70, 90, seed=99), quality=80)
    one = Path(whole.source.partition(":")[2], "train/b/1.jpg")
    one.write_bytes(other)
    with pytest.raises(RunFailed, match=r"a pixel of .*train/b/1.jpg"):
        verify(whole, lines.append, all_images=True)


def test_a_part_that_is_otherwise_when_it_is_decoded_alone_is_named(whole, lines, monkeypatch):
    prepare(whole, lines.append)
    monkeypatch.setattr(jpeg_images, "decode_crop", lambda *arguments: np.zeros((35, 45, 3)))
    with pytest.raises(RunFailed, match="a pixel of "):
        verify(whole, lines.append, all_images=True)


def test_another_order_of_slices_is_named(whole, lines):
    prepare(whole, lines.append)
    np.save(whole.output / "train.order.npy", np.arange(7))
    with pytest.raises(RunFailed, match="the order in which slices are taken"):
        verify(whole, lines.append, all_images=True)


def test_a_shard_whose_content_is_damaged_is_named(whole, lines):
    prepare(whole, lines.append)
    file = whole.output / "train-00001-of-00003.array_record"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunFailed, match=f"{file.name} does not have its checksum"):
        verify(whole, lines.append, all_images=False)


def test_results_are_in_the_order_of_tasks():
    seen = []
    found = in_processes(doubled, [(n,) for n in range(20)], (3,), 2, seen.append)
    assert found == [3 * n for n in range(20)]
    assert seen[-1] == 20


def test_a_process_that_is_killed_ends_the_work():
    with pytest.raises(RunFailed, match="a process was killed, by the system if memory ran out"):
        in_processes(killed, [(0,)], (), 1, lambda done: None)


def test_the_others_stop_where_one_fails():
    with pytest.raises(RunFailed, match="no"):
        in_processes(failing, [(0,), (1,), (2,)], (), 2, lambda done: None)


def test_progress_says_how_long_it_takes(lines, monkeypatch):
    now = iter([0.0, 5.0, 20.0, 25.0])
    monkeypatch.setattr(processes.time, "monotonic", lambda: next(now))
    progress = processes.Progress(lines.append, "prepared", 1000, patience=10)
    for done in (50, 200, 250):
        progress(done)
    assert lines == ["prepared 200 of 1,000 images (20%), 10 a second, ETA 0:01:20"]


SLOW = """
import time
from distill.data.preparing import parts
encoded = parts.encoded_image
def slowly(source, index):
    time.sleep(600 if index == 5 else 0)
    return encoded(source, index)
parts.encoded_image = slowly
from distill.data.preparing import Preparation, prepare
from pathlib import Path
prepare(
    Preparation(
        source={source!r}, output=Path({output!r}), splits=("train",), workers=0, images_per_shard=3
    ),
    print,
)
"""


def test_a_killed_process_loses_what_is_not_finished(whole, lines, monkeypatch, tmp_path):
    script = SLOW.format(source=whole.source, output=str(whole.output))
    process = subprocess.Popen([sys.executable, "-c", script])
    note = whole.output / "unfinished/train-00000-of-00003.array_record.json"
    wait_for(note.exists)
    process.kill()
    process.wait()
    assert not (whole.output / "manifest.json").exists()
    with pytest.raises(UserError, match="is not prepared to the end"):
        opened(whole.output)
    assert read_again(whole, lines, monkeypatch) == [3, 4, 5, 6]
    other = dataclasses.replace(whole, output=tmp_path / "other")
    prepare(other, lines.append)
    assert content(whole.output) == content(other.output)
