"""A run knows its data again by a fingerprint."""

import pickle
import shutil

import numpy as np
import pytest

from distill.data import ChosenClasses, FewImages, Subset, open_source


def folder(root, kind="folder", split="train"):
    return open_source(f"{kind}:{root}", split, channels=3).fingerprint


@pytest.fixture
def copied(image_folder, tmp_path):
    return shutil.copytree(image_folder, tmp_path / "copy")


@pytest.mark.parametrize("kind", ["folder", "images"])
def test_it_is_the_same_wherever_the_files_lie(image_folder, copied, kind):
    assert folder(copied, kind) == folder(image_folder, kind)


CHANGES = {
    "a file more": lambda root: shutil.copy(root / "grey/0.jpg", root / "grey/new.jpg"),
    "a file less": lambda root: (root / "grey/0.jpg").unlink(),
    "another name": lambda root: (root / "grey/0.jpg").rename(root / "grey/00.jpg"),
    "another size": lambda root: (root / "grey/0.jpg").write_bytes(b"another"),
    "another class": lambda root: (root / "grey/0.jpg").rename(root / "dark/zero.jpg"),
    "a class renamed": lambda root: (root / "light").rename(root / "lighter"),
    "a class without images": lambda root: (root / "none").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_changes_with_files_and_classes(image_folder, copied, change):
    CHANGES[change](copied / "train")
    assert folder(copied) != folder(image_folder)
    assert folder(copied, split="test") == folder(image_folder, split="test")


def test_splits_slices_and_subsets_have_their_own(image_folder):
    source = open_source(f"folder:{image_folder}", "train", channels=3)
    digits = open_source("digits", "train", channels=1)
    found = [
        source.fingerprint,
        folder(image_folder, split="test"),
        folder(image_folder, split="train[:50%]"),
        folder(image_folder, split="train[50%:]"),
        folder(image_folder, split="train+test"),
        folder(image_folder, split="test+train"),
        folder(image_folder, kind="images"),
        FewImages(source, 6).fingerprint,
        ChosenClasses(source, ("dark", "grey")).fingerprint,
        ChosenClasses(source, ("grey", "dark")).fingerprint,
        Subset(source, np.array([1, 2])).fingerprint,
        Subset(source, np.array([2, 1])).fingerprint,
        digits.fingerprint,
        open_source("digits", "test", channels=1).fingerprint,
        Subset(digits, np.array([1, 2])).fingerprint,
    ]
    assert len(set(found)) == len(found)
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in found)


@pytest.mark.parametrize("split", ["train", "train[:50%]", "train+test"])
def test_it_holds_after_pickling(image_folder, split):
    source = open_source(f"folder:{image_folder}", split, channels=3)
    assert pickle.loads(pickle.dumps(source)).fingerprint == source.fingerprint  # noqa: S301


def test_how_images_are_read_does_not_matter(image_folder):
    grey = open_source(f"folder:{image_folder}", "train", channels=1, exif_orientation=True)
    assert grey.fingerprint == folder(image_folder)
