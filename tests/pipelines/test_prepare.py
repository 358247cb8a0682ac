"""`distill prepare`, as a user runs it."""

import jpegs
import pytest
from support import run_command

from distill.data import open_source


@pytest.fixture
def photos(tmp_path):
    for number in range(4):
        folder = tmp_path / "photos/train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        data = jpegs.pillow(jpegs.photograph(70, 90, seed=number), quality=80)
        (folder / f"{number}.jpg").write_bytes(data)
    return tmp_path / "photos"


def test_it_prepares_verifies_and_says_how_to_go_on(photos, tmp_path):
    output = tmp_path / "output"
    command = ("prepare", f"folder:{photos}", f"--output={output}", "--workers=0", "--verify")
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    first, verified, last = done.stdout.splitlines()
    assert first.startswith("train: 4 images in 2 classes, 4 with restart markers, ")
    assert verified == "verified: all checksums, and 4 images beside their source"
    assert last == f"--config.data.source=prepared:{output}"
    assert "there is no validation: " in done.stderr
    assert len(open_source(last.partition("=")[2], "train[:50%]", channels=3)) == 2
    again = run_command(*command)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "holds all of it already" in again.stderr


def test_what_differs_ends_it_with_1(photos, tmp_path):
    output = tmp_path / "output"
    command = ("prepare", f"--source=folder:{photos}", f"--output={output}", "--workers=0")
    assert run_command(*command, "--norestarts", "--split=train").returncode == 0
    file = output / "train-00000-of-00001.array_record"
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    done = run_command(*command, "--norestarts", "--verify=all")
    assert done.returncode == 1
    assert f"{file.name} does not have its checksum: it is damaged" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a source: distill prepare folder:PATH --output=DIR"),
        (("digits",), "--output needs a value"),
        (("--output=there",), "--source needs a value"),
        (("digits", "--output=there", "more"), "unexpected argument 'more'"),
        (("digit", "--output=there"), "did you mean 'digits'?"),
        (("folder:nowhere", "--output=there"), "nowhere does not exist"),
        (("digits", "--output=there", "--split=dev"), "digits has no split 'dev'"),
        (("digits", "--output=there", "--verify=some"), "--verify"),
        (("digits", "--output=gs://bucket/there"), "not on this machine"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_written(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_command("prepare", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not [*tmp_path.rglob("*.array_record")]
