"""`distill predict MODEL IMAGE…`: what a person is told of images."""

import csv

import numpy as np
import pytest
import small_photos
from published import big_vision_arrays
from support import run_command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls"))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return small_photos.flat(tmp_path_factory.mktemp("photos") / "flat", 4, damaged=1)


def test_images_are_told_on_the_terminal(model, photos):
    done = run_command("predict", model, photos / "001.jpg", photos / "002.jpg", "--top=2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "1st class" in lines[0] and "2nd class" in lines[0] and "3rd" not in lines[0]
    assert [line.split()[0] for line in lines[2:]] == [str(photos / f"{n:03}.jpg") for n in (1, 2)]
    assert lines[2].count("%") == 2


def test_a_folder_is_written_and_what_is_damaged_is_counted(model, photos, tmp_path):
    done = run_command("predict", model, photos, f"--output={tmp_path / 'a.csv'}")
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert len(rows) == 4 and rows[0][:3] == ["image", "class_1", "probability_1"]
    assert "1 files left out" in done.stderr and "3 images →" in done.stderr


def test_embeddings_are_written(model, photos, tmp_path):
    file = tmp_path / "a.npz"
    done = run_command("predict", model, photos, "--embeddings", f"--output={file}")
    assert done.returncode == 0, done.stderr
    with np.load(file) as found:
        assert found["embedding"].shape == (3, 24) and len(found["name"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "expected images: distill predict"),
        (["MODEL", "PHOTOS", "--split=test"], "--split is for a data source"),
        (["MODEL", "PHOTOS", "--embeddings"], "add --output=FILE.npz"),
        (["MODEL", "PHOTOS", "--output=a.txt"], "predictions are written to files named .csv"),
        (["MODEL", "none.jpg"], "there is no image or folder none.jpg"),
        (["--weights=MODEL", "--output=a.npz", "--top=2"], "--top is for distill predict MODEL"),
        ([], "--output needs a value"),
    ],
)
def test_what_does_not_go_together_is_said(
    model, photos, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = [one.replace("MODEL", str(model)).replace("PHOTOS", str(photos)) for one in arguments]
    done = run_command("predict", *said)
    assert done.returncode == 2 and message in done.stderr


def test_a_model_without_classes_says_what_to_type(photos, tmp_path):
    np.savez(tmp_path / "vit.npz", **big_vision_arrays("original", "cls", classes=0))
    done = run_command("predict", tmp_path / "vit.npz", photos)
    assert done.returncode == 2
    assert "has no classes; --embeddings --output=FILE.npz" in done.stderr
