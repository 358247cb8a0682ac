"""The sets that come with the package, against what is published of them."""

import random
from fractions import Fraction

import pytest

from distill.analysis.label_spaces.data_files import (
    imagenet21k_wnids,
    imagenet_numbers,
    imagenet_wnids,
)
from distill.analysis.label_spaces.imagenet import real_labels, validation_labels
from distill.analysis.label_spaces.label_space import (
    LabelSpace,
    NoClass,
    known_label_spaces,
    set_or_map,
)
from distill.errors import UserError

TENCH, TEDDY = "n01440764", "n04399382"


def space(name: str) -> LabelSpace:
    return known_label_spaces()[name]


def said(name: str, image: str) -> list[str]:
    """The classes that an image may be taken for, by name."""
    return [space(name).class_names[place] for place in space(name).accepted(image)]


def test_imagenets_classes_are_sorted_wordnet_numbers():
    wnids = imagenet_wnids()
    assert len(wnids) == 1000 and list(wnids) == sorted({*wnids})
    assert (imagenet_numbers()[TENCH], imagenet_numbers()[TEDDY]) == (0, 850)


def test_imagenet21k_has_all_of_imagenets_classes_but_one():
    assert len({*imagenet21k_wnids()}) == 21_843
    assert {*imagenet_wnids()} - {*imagenet21k_wnids()} == {TEDDY}


def test_the_first_labels_are_right_on_90_0228_percent_of_real():
    assert len(real_labels()) == len(validation_labels()) == 50_000
    scored = [
        label in seen
        for label, seen in zip(validation_labels(), real_labels(), strict=True)
        if seen
    ]
    assert Fraction(sum(scored), len(scored)) == Fraction(42_164, 46_837)
    assert f"{42_164 / 46_837:.4%}" == "90.0228%"


def test_reals_labels_are_as_many_as_published():
    counts = [len(seen) for seen in real_labels()]
    assert (counts.count(0), sum(counts), max(counts)) == (3_163, 57_553, 9)
    assert sum(count > 1 for count in counts) == 7_443
    assert {label for seen in real_labels() for label in seen} == {*range(1000)}


def test_imagenet_a_and_r_share_86_classes():
    a, r = space("imagenet_a").class_names, space("imagenet_r").class_names
    assert len(a) == len(r) == 200
    assert len({*a} & {*r}) == 86


@pytest.mark.parametrize("name", known_label_spaces())
def test_classes_are_distinct_and_stand_for_distinct_ones_of_imagenet(name):
    found = space(name)
    assert len({*found.class_names}) == len(found.class_names) == len(found.members)
    numbers = [number for one in found.members for number in one]
    assert len({*numbers}) == len(numbers) and {*numbers} <= {*range(1000)}
    if name != "objectnet":
        assert [found.vocabulary[number] for number in numbers] == [*found.class_names]


@pytest.mark.parametrize(
    "image",
    [
        "ILSVRC2012_val_00000001.JPEG",
        "val/n01751748/ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00000001_n01751748.JPEG",
    ],
)
def test_validation_images_are_known_in_any_folder(image):
    # The first of ReaL's lists is empty, and the first label is a sea snake.
    assert said("imagenet", image) == ["n01751748"] and said("real", image) == []


def test_real_goes_by_number_not_by_the_order_of_images():
    # The published list's second entry is [970, 795].
    assert space("real").accepted("ILSVRC2012_val_00000002.JPEG") == (970, 795)
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 201)]
    shuffled = random.Random(0).sample(names, len(names))
    found = dict(zip(shuffled, map(space("real").accepted, shuffled), strict=True))
    assert [found[name] for name in names] == list(real_labels()[:200])
    # By the order in which they were read, most would be wrong.
    wrong = sum(found[one] != seen for one, seen in zip(shuffled, real_labels(), strict=False))
    assert wrong > 150


@pytest.mark.parametrize("name", ["imagenet", "imagenet_v2", "imagenet_a", "imagenet_r"])
def test_the_nearest_folder_with_a_wordnet_number_counts(name):
    wnid = space(name).class_names[7]
    assert said(name, f"n99999999/{wnid}/deeper/one.jpg") == [wnid]


@pytest.mark.parametrize(
    "variant", ["imagenet_v2", "imagenet_v2_threshold", "imagenet_v2_topimages"]
)
def test_numeric_folders_are_numbers_of_classes_not_ranks(variant):
    folders = sorted(map(str, range(1000)))
    assert folders[2] == "10"
    for folder in folders:
        assert space(variant).accepted(f"format-val/{folder}/one.jpeg") == (int(folder),)
    assert space(variant).accepted("0010/one.jpeg") == (10,)
    # By their ranks, 1.2 % would be right.
    assert sum(rank == int(folder) for rank, folder in enumerate(folders)) == 12


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("imagenet", "tench/one.JPEG", "a folder such as n01440764, or called ILSVRC2012_val_00"),
        ("imagenet", "n00000001/one.JPEG", "n00000001 is none of the set's 1,000 classes, nor of"),
        ("imagenet", "ILSVRC2012_val_00050001.JPEG", "its number is 50001; .* 1 to 50000"),
        ("imagenet", "ILSVRC2012_val_00000000.JPEG", "its number is 0"),
        (
            "imagenet",
            "n01440764/ILSVRC2012_val_00000001.JPEG",
            "its folder is n01440764, but that validation image is of n01751748",
        ),
        ("real", "n01440764/one.JPEG", "ReaL knows images by name alone"),
        ("real", "0", "ReaL knows images by name alone"),
        ("imagenet_v2", "1000/one.jpeg", "its folder is 1000; expected one named 0 to 999"),
        ("imagenet_v2", "one.jpeg", "expected it in a folder named 0 to 999"),
        ("imagenet_a", f"{TENCH}/one.jpg", f"{TENCH} is none of the set's 200 classes$"),
        ("objectnet", "alarm clock/one.png", "one of ObjectNet's 313 folders"),
    ],
)
def test_a_name_that_is_none_of_the_sets_is_refused(name, image, expected):
    with pytest.raises(ValueError, match=expected):
        space(name).accepted(image)


def test_a_name_that_says_a_wrong_class_is_not_one_that_says_none():
    with pytest.raises(NoClass):
        space("imagenet_a").accepted("one.jpg")
    with pytest.raises(ValueError, match="none of the set's") as raised:
        space("imagenet_a").accepted(f"{TENCH}/one.jpg")
    assert not isinstance(raised.value, NoClass)


def test_a_set_goes_by_name_or_is_a_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set_or_map("imagenet_a") == "imagenet_a"
    assert set_or_map("own.json") == str(tmp_path / "own.json")
    with pytest.raises(UserError, match="'imagenet_s' is no known set; did you mean 'imagenet_"):
        set_or_map("imagenet_s")
