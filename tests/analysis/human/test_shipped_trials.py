"""What comes with the project is what was published."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from distill.analysis.human.archive import (
    read_archive,
    shipped_file,
    shipped_trials,
    stimuli,
    write_archive,
)
from distill.analysis.human.datasets import CATEGORIES, DATASETS
from distill.analysis.human.trials import read_trials

# Of the published files, each after its name: header in lower case, lines ending in a line feed.
PUBLISHED = "6b880838111985eb3b51827571820d6e0e7a1bdf7d3b0ab9fde4a60816127987"
IMAGES = "3f5d040968dcf11487be5735e29bcf3310f30f423eb51d305a0b9128a0a596f5"


def test_written_back_the_trials_are_the_published_files(raw_data):
    files = sorted(raw_data.glob("*/*.csv"), key=lambda file: file.relative_to(raw_data).as_posix())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(raw_data).as_posix().encode() + b"\n" + file.read_bytes())
    assert (len(files), digest.hexdigest()) == (124, PUBLISHED)


def test_files_packed_again_are_the_archive_that_comes_with_the_project(raw_data, tmp_path):
    write_archive(tmp_path / "again.npz", map(read_trials, raw_data.glob("*/*.csv")))
    shipped = shipped_file("data/trials.npz").read_bytes()
    assert (tmp_path / "again.npz").read_bytes() == shipped


def test_there_are_as_many_trials_as_published():
    people = [one for one in shipped_trials() if one.is_human]
    models = [one for one in shipped_trials() if not one.is_human]
    assert (len(people), sum(map(len, people))) == (90, 85_120)
    assert (len(models), sum(map(len, models))) == (34, 36_160)
    assert {one.observer for one in models} == {"resnet50", "simclr_resnet50x1"}
    subjects = {name: sum(one.dataset == name for one in people) for name in DATASETS}
    several = {"cue-conflict": 10, "edge": 10, "silhouette": 10, "sketch": 7, "stylized": 5}
    assert subjects == dict.fromkeys(DATASETS, 4) | several
    assert all(len(one) == DATASETS[one.dataset].images for one in shipped_trials())


@pytest.mark.parametrize(
    "changed",
    [
        dict(numbers=np.arange(2, 162)),
        dict(sessions=np.full(160, 2)),
        dict(images=("another.png",) * 160),
        dict(seconds=np.full(160, 0.1234567891234)),
    ],
)
def test_an_archive_refuses_trials_that_it_cannot_hold(changed, tmp_path):
    edges = [one for one in shipped_trials() if one.dataset == "edge"]
    odd = dataclasses.replace(edges[3], **changed)
    with pytest.raises(ValueError, match="the trials of subject-04 with edge are not what an"):
        write_archive(tmp_path / "odd.npz", [*edges[:3], odd])
    write_archive(tmp_path / "even.npz", edges)
    assert len(list(read_archive(tmp_path / "even.npz"))) == len(edges)


def test_the_images_are_those_that_people_were_shown():
    digest = hashlib.sha256()
    for name in ("edge", "silhouette"):
        [model] = [
            one for one in shipped_trials() if (one.dataset, one.observer) == (name, "resnet50")
        ]
        files = sorted((stimuli() / name).glob("*/*.png"))
        assert [(file.parent.name, file.name) for file in files] == [
            (CATEGORIES[code], image)
            for code, image in zip(model.categories, model.images, strict=True)
        ]
        for file in files:
            digest.update(file.read_bytes())
        with Image.open(files[0]) as image:
            assert (image.size, image.mode) == ((224, 224), "RGB")
    assert digest.hexdigest() == IMAGES
    assert "Attribution 4.0 International" in (stimuli() / "LICENSE").read_text()
