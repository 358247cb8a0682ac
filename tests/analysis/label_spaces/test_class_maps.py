"""Maps of classes as users write them, and a model's classes."""

import pytest

from distill.analysis.label_spaces.class_lists import read_class_lists
from distill.analysis.label_spaces.data_files import imagenet21k_wnids, imagenet_wnids
from distill.analysis.label_spaces.model_classes import find_classes
from distill.analysis.label_spaces.own_set import own_label_space
from distill.errors import UserError

WNIDS = imagenet_wnids()


def _file(tmp_path, text: str):
    file = tmp_path / "map.json"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "x",\n "b": }', "map.json is no JSON: .* line 2"),
        ('{"a": "x", "a": "y"}', "map.json says 'a' more than once"),
        ('["a"]', "map.json holds list; expected a JSON object"),
        ("{}", "map.json holds nothing"),
        ('{"a": {"b": 1}}', "map.json, 'a' is .*; expected the name or the number of a class"),
        ('{"a": ["x", null]}', "map.json, 'a' is null; expected the name"),
        ('{"a": true}', "map.json, 'a' is true"),
        ('{"a": 1.5}', r"map.json, 'a' is 1\.5"),
        ("[" * 100_000, "map.json is no JSON"),
    ],
)
def test_a_malformed_map_is_refused_by_its_line_or_entry(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        read_class_lists(_file(tmp_path, text))


def test_a_map_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match=r"map.json cannot be read: No such file"):
        read_class_lists(tmp_path / "map.json")


def test_a_map_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "map.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": ["x", 3]}')
    assert read_class_lists(file) == {"a": ("x", 3)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"n01440764": "tenhc"}', "'n01440764' is 'tenhc', which is none of 4 .*mean 'tench'"),
        ('{"n01440764": 4}', "'n01440764' is class 4; expected 0 to 3"),
        ('{"n01440764": -1}', "'n01440764' is class -1"),
        ('{"n01440764": "crane"}', "'crane', as 2 classes are called; give the number"),
        ('{"tench": "tench"}', "map.json has 'tench', which is none of the 1,000 classes n0144"),
    ],
)
def test_a_map_of_unknown_classes_is_refused_by_its_entry(tmp_path, text, expected):
    names = ("tench", "crane", "crane", "other")
    with pytest.raises(UserError, match=expected):
        find_classes(names, WNIDS, str(_file(tmp_path, text)))


def test_a_map_says_which_of_the_models_classes_stand_for_a_class(tmp_path):
    file = _file(tmp_path, '{"n01440764": ["b", 0], "n01443537": [], "n15075141": "b"}')
    found = find_classes(("a", "b"), WNIDS, str(file))
    assert found.members[0] == (0, 1) and found.members[1] == () and found.members[999] == (1,)
    assert found.absent.sum() == 998
    # The model's b stands for two classes: an image of it is of neither for sure.
    assert found.of_labels == {0: 0}


def test_classes_called_by_wordnet_number_are_found_in_any_order():
    found = find_classes(WNIDS[::-1], WNIDS)
    assert found.members[0] == (999,) and not found.absent.any()


def test_classes_under_other_names_have_to_be_declared():
    names = tuple(map(str, range(1000)))
    with pytest.raises(UserError, match=r"1,000 classes are called 0, 1, 2, …; expected n01440764"):
        find_classes(names, WNIDS)
    assert find_classes(names, WNIDS, "in_order").members[5] == (5,)


def test_declared_imagenet21k_is_known_by_its_number_of_classes():
    found = find_classes(tuple(map(str, range(21_843))), WNIDS, "in_order")
    assert found.members[0] == (imagenet21k_wnids().index("n01440764"),)
    assert found.members[850] == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (tuple(map(str, range(1001))), "has 1,001 classes; expected 1,000 or 21,843"),
        (WNIDS[::-1], "the model's class 0 is n15075141, not n01440764; leave model_classes out"),
    ],
)
def test_a_declared_order_that_cannot_be_is_refused(names, expected):
    with pytest.raises(UserError, match=expected):
        find_classes(names, WNIDS, "in_order")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": []}', "map.json lists no class"),
        ('{"a": "dgo"}', "map.json, 'a' is 'dgo', which is none of 2 classes; did you mean 'dog'"),
    ],
)
def test_a_malformed_set_is_refused_by_its_entry(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        own_label_space(_file(tmp_path, text), ("cat", "dog"))


def test_an_image_that_a_set_lacks_is_refused(tmp_path):
    space = own_label_space(_file(tmp_path, '{"a": "cat"}'), ("cat", "dog"))
    with pytest.raises(ValueError, match="neither it nor its folder"):
        space.accepted("b/1.jpg")
