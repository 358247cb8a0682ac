"""Runs on some classes of a source, and parts of it."""

import numpy as np
import pytest

from distill.data import DataConfig, Subset, open_source
from distill.errors import UserError


def read_all(source):
    return [tuple(source.read(i).values()) for i in range(len(source))]


@pytest.fixture(params=["digits", "folder"])
def whole(request, image_folder):
    """A source, and a config that opens it."""
    name = "digits" if request.param == "digits" else f"folder:{image_folder}"
    return open_source(name, "train", channels=1), DataConfig(source=name)


def test_labels_are_those_that_reading_gives(whole):
    source, _ = whole
    assert source.labels.dtype == np.int32
    assert source.labels.tolist() == [label for _, label in read_all(source)]


def test_labels_of_a_folder_are_known_without_decoding(tmp_path):
    for name in ("a", "b", "b"):
        file = tmp_path / "train" / name / f"{len(list(tmp_path.rglob('*')))}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"no image")
    assert open_source(f"folder:{tmp_path}", "train", channels=3).labels.tolist() == [0, 1, 1]


def test_chosen_classes_hold_their_images_numbered_as_given(whole):
    source, config = whole
    last, first = source.class_names[-1], source.class_names[0]
    chosen = DataConfig(source=config.source, classes=(last, first)).open("train", channels=1)
    assert chosen.class_names == (last, first) and chosen.spec == source.spec
    number = {len(source.class_names) - 1: 0, 0: 1}
    expected = [
        (source.describe(i), number[label], image.tobytes())
        for i, (image, label) in enumerate(read_all(source))
        if label in number
    ]
    found = [
        (chosen.describe(i), label, image.tobytes())
        for i, (image, label) in enumerate(read_all(chosen))
    ]
    assert found == expected
    assert chosen.labels.tolist() == [label for _, label, _ in expected]


def test_a_subset_holds_the_images_at_its_indices():
    source = open_source("digits", "test", channels=1)
    part = Subset(source, np.array([5, 300, 2]))
    assert [part.describe(i) for i in range(3)] == [source.describe(i) for i in (5, 300, 2)]
    assert part.labels.tolist() == [source.read(i)["label"] for i in (5, 300, 2)]
    assert part.class_names == source.class_names


def test_unknown_class_names_what_there_is(whole):
    source, config = whole
    with pytest.raises(UserError) as caught:
        DataConfig(source=config.source, classes=("lihgt",)).open("train", channels=1)
    assert all(name in str(caught.value) for name in ("'lihgt'", *source.class_names))
    assert ("did you mean 'light'" in str(caught.value)) == ("light" in source.class_names)


def test_a_class_without_images_in_a_split_is_refused(tmp_path, image_folder):
    for name in ("light", "empty"):
        (tmp_path / "train" / name).mkdir(parents=True)
    image = (image_folder / "train" / "light" / "0.jpg").read_bytes()
    (tmp_path / "train" / "light" / "0.jpg").write_bytes(image)
    with pytest.raises(UserError, match=r"split 'train' of .* holds no images of empty"):
        DataConfig(source=f"folder:{tmp_path}", classes=("empty",)).open("train", channels=3)


def test_a_class_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"classes .*'3' twice"):
        DataConfig(classes=("3", "5", "3"))


def opened(**options):
    return DataConfig(**options).open_splits(channels=1)


def descriptions(source):
    return [source.describe(i) for i in range(len(source))]


@pytest.mark.parametrize("count", [1, 7, 10, 95, 500, 1197])
def test_few_images_are_spread_evenly_over_the_classes(count):
    labels = [label for _, label in read_all(opened(train_images=count).train)]
    assert len(labels) == count
    there = np.bincount(open_source("digits", "train", channels=1).labels)
    # The evenest split: give one image at a time to the class with the fewest that has more.
    expected = np.zeros(10, int)
    for _ in range(count):
        expected[np.where(expected < there, expected, count).argmin()] += 1
    assert np.bincount(labels, minlength=10).tolist() == expected.tolist()


def test_few_images_are_always_the_same_in_the_order_of_the_source_and_among_more():
    whole = opened()
    few, again, more = (opened(train_images=count) for count in (50, 50, 70))
    assert descriptions(few.train) == descriptions(again.train)
    places = [descriptions(whole.train).index(text) for text in descriptions(few.train)]
    assert places == sorted(set(places)) and places != list(range(50))
    assert set(descriptions(few.train)) < set(descriptions(more.train))


def test_images_to_evaluate_on_are_all_there_beside_few_to_train_on():
    few, whole = opened(train_images=50), opened()
    assert descriptions(few.validation) == descriptions(whole.validation)
    assert descriptions(few.test) == descriptions(whole.test)


def test_few_images_of_chosen_classes_are_of_these():
    labels = opened(train_images=6, classes=("9", "4")).train.labels
    assert np.bincount(labels).tolist() == [3, 3]


def test_few_images_without_labels_are_drawn_from_all(image_folder):
    options = dict(source=f"images:{image_folder}", validation_split=None, test_split=None)
    whole, few = opened(**options).train, opened(**options, train_images=9).train
    assert len(few) == 9 and set(descriptions(few)) < set(descriptions(whole))
    assert descriptions(few) != descriptions(whole)[:9]
    assert few.labels.tolist() == [-1] * 9


def test_more_images_than_there_are_to_train_on_are_refused():
    with pytest.raises(UserError, match=r"train_images is 1,198, more than the 1,197 images"):
        opened(train_images=1198)


def test_no_images_to_train_on_are_refused():
    with pytest.raises(ValueError, match="train_images must be a whole number from 1 to"):
        DataConfig(train_images=0)
