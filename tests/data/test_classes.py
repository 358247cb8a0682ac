"""Labels are numbers of names: images are numbered as the model they meet numbers its classes."""

import json

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, open_source
from distill.data.classes import (
    among,
    name_classes,
    numbered,
    places,
    present,
    read_class_map,
    renamed,
)
from distill.errors import UserError

SHOWN = dict(shown="the data", whose="the model")


@pytest.fixture
def images(image_folder):
    return open_source(f"folder:{image_folder}", "train", channels=3)


def names_of(source):
    """The name of each image's class, by its label."""
    return [source.class_names[label] for label in source.labels]


def test_the_same_names_in_another_order_are_put_in_order(images):
    shown = numbered(images, ("light", "dark", "grey"), **SHOWN)
    assert shown.class_names == ("light", "dark", "grey") and among(shown) is None
    assert names_of(shown) == names_of(images)
    assert [shown.read(i)["label"] for i in range(len(shown))] == shown.labels.tolist()
    assert np.array_equal(shown.read(5)["image"], images.read(5)["image"])
    assert shown.describe(5) == images.describe(5)


def test_a_model_of_more_classes_numbers_those_that_are_there(images):
    shown = numbered(images, ("black", "light", "grey", "white", "dark"), **SHOWN)
    assert among(shown) == (1, 2, 4)
    assert present(shown) == ("light", "grey", "dark")
    assert names_of(shown) == names_of(images)
    again = numbered(shown, ("grey", "dark", "light"), **SHOWN)
    assert among(again) is None and names_of(again) == names_of(images)


def test_images_without_a_label_stay_without(images):
    unlabelled = renamed(images, {"dark": "night"})
    unlabelled._source = type("Unlabelled", (), {"labels": np.array([-1, 2, -1])})()
    assert unlabelled.labels.tolist() == [-1, 2, -1]


def test_other_names_are_an_error_that_names_them_and_says_what_to_type(images):
    with pytest.raises(UserError) as caught:
        numbered(images, ("darc", "grey", "light"), **SHOWN)
    message = str(caught.value)
    assert "the data has 1 class that the model does not have: 'dark'" in message
    assert "did you mean 'darc'?" in message
    assert "class_map=FILE" in message and "class_map=in_order" in message


@pytest.mark.parametrize(
    "classes, model, right",
    [
        (("zero", "one"), ("0", "1"), (0, 1)),
        # What both know by one name says where it is.
        (("zero", "1"), ("0", "1"), (0, 1)),
        (("zero", "0"), ("0", "1"), None),
        (("zero",), ("0", "1"), None),
        (("1", "0"), ("0", "1"), (1, 0)),
        # ImageNet's names have two cranes.
        (("crane", "owl"), ("crane", "crane"), (0, 1)),
        (("owl", "heron", "crane"), ("heron", "crane", "crane"), None),
        (("heron", "owl", "egret"), ("crane", "owl", "crane"), (0, 1, 2)),
        (("crane", "heron", "owl"), ("crane", "crane", "owl"), (0, 1, 2)),
    ],
)
def test_a_user_may_say_that_classes_are_in_one_order(classes, model, right):
    if right is None:
        with pytest.raises(UserError):
            places(classes, model, in_order=True, **SHOWN)
    else:
        assert places(classes, model, in_order=True, **SHOWN) == right


def test_a_name_that_a_model_has_twice_tells_no_number():
    assert places(("crane", "crane"), ("crane", "crane"), **SHOWN) == (0, 1)
    assert places(("owl",), ("crane", "owl", "crane"), **SHOWN) == (1,)
    with pytest.raises(UserError, match="more than one class 'crane'"):
        places(("crane",), ("crane", "owl", "crane"), **SHOWN)


def test_a_map_renames_classes_and_joins_them(images, image_folder, tmp_path):
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"dark": "unlit", "grey": "unlit"}))
    config = DataConfig(source=f"folder:{image_folder}", class_map=str(file))
    source = config.open("train", channels=3)
    assert source.class_names == ("unlit", "light")
    assert np.bincount(source.labels).tolist() == [16, 8]
    assert [source.read(i)["label"] for i in (0, 15, 16)] == [0, 0, 1]
    chosen = DataConfig(**vars(config) | {"classes": ("light", "unlit")})
    assert chosen.open("train", channels=3).class_names == ("light", "unlit")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "it is no such object"),
        ('{"dark": 1}', "it is no such object"),
        ("{}", "it is empty"),
        ("{", "is no map of classes: Expecting"),
        ('{"dark": "a", "dark": "b"}', "it says 'dark' more than once"),
        ('{"dark": "a", "drak": "b"}', "class_map has 'drak', which is no class of the data"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(image_folder, tmp_path, content, message):
    file = tmp_path / "map.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message):
        DataConfig(source=f"folder:{image_folder}", class_map=str(file)).open("train", channels=3)


def test_a_map_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "map.json"
    file.write_text('{"dark": "unlit"}', encoding="utf-8-sig")
    assert read_class_map(file) == {"dark": "unlit"}


def test_what_classes_are_called_counts_in_the_fingerprint(images):
    one, other = (renamed(images, {"dark": name}) for name in ("unlit", "grey"))
    swapped = renamed(images, {"dark": "grey", "grey": "dark"})
    prints = {source.fingerprint for source in (images, one, other, swapped)}
    assert len(prints) == 4
    assert renamed(images, {"dark": "unlit"}).fingerprint == one.fingerprint


def test_marks_on_letters_are_written_in_one_way(tmp_path):
    """A folder that macOS wrote holds two characters for one."""
    (tmp_path / "train" / "ro\u0308d").mkdir(parents=True)
    Image.new("L", (2, 2)).save(tmp_path / "train" / "ro\u0308d" / "i.png")
    source = open_source(f"folder:{tmp_path}", "train", channels=1)
    assert source.class_names == ("r\u00f6d",) and len(source) == 1
    (tmp_path / "train" / "r\u00f6d").mkdir()
    with pytest.raises(UserError, match=r"two folders in .* are called"):
        open_source(f"folder:{tmp_path}", "train", channels=1)


def test_a_split_may_lack_a_class_but_have_no_other(image_folder, tmp_path):
    for split in ("train", "validation", "test"):
        for name in ("dark", "grey", "light"):
            if (split, name) != ("validation", "grey"):
                (tmp_path / split).mkdir(exist_ok=True)
                (tmp_path / split / name).symlink_to(image_folder / split / name)
    config = DataConfig(source=f"folder:{tmp_path}")
    splits = config.open_splits(channels=3)
    assert among(splits.validation) == (0, 2) and among(splits.test) is None
    assert names_of(splits.validation) == ["dark"] * 2 + ["light"] * 2
    (remark,) = splits.remarks()
    assert "the validation data has 2 of the 3 classes and lacks grey" in remark
    (tmp_path / "test" / "black").symlink_to(image_folder / "test" / "dark")
    with pytest.raises(
        UserError, match=r"split 'test' of .* has 1 class .* does not have: 'black'"
    ):
        config.open_splits(channels=3)


def test_one_class_alone_is_remarked(image_folder):
    config = DataConfig(source=f"folder:{image_folder}", classes=("dark",))
    (remark,) = config.open_splits(channels=3).remarks()
    assert "one class only, 'dark'" in remark
    assert not [*DataConfig().open_splits(channels=1).remarks()]


def test_a_models_classes_are_named_by_the_first_who_has_as_many():
    data, teacher = ("a", "b"), ("x", "y", "z")
    assert name_classes("m", 3, data, (), teacher) == teacher
    assert name_classes("m", 2, (), data, teacher) == data
    assert name_classes("m", 7) == name_classes("m", 7, ()) == ()
    with pytest.raises(UserError, match=r"m has 4 classes, but the data has 2 \(a, b\)"):
        name_classes("m", 4, data, teacher)
