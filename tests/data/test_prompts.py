"""Texts that stand for classes, as files give them."""

import json

import pytest

from distill.data.prompts import (
    PLACE,
    TEMPLATES,
    own_names,
    prompts,
    read_names,
    read_templates,
)
from distill.errors import UserError

CLASSES = ("n01", "n02", "n03")


def written(tmp_path, text, name="names.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


NAMES = (("cat",), ("dog", "hunting hound"), ("crane",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "cat\ndog,  hunting   hound \n\n crane\n"),
        ("names.txt", '\ufeffcat\r\n["dog", "hunting hound"]\r\ncrane,\r\n'),
        ("names.json", '["cat", ["dog", "hunting hound"], ["crane"]]'),
        ("names.json", '{"n03": "crane", "n01": "cat", "n02": ["dog", "hunting hound"]}'),
    ],
)
def test_a_class_has_one_name_or_several(tmp_path, name, text):
    assert read_names(written(tmp_path, text, name), CLASSES) == NAMES


def test_a_name_with_a_comma_stands_in_a_list(tmp_path):
    file = written(tmp_path, 'a\nb\n["Washington, D.C."]\n')
    assert read_names(file, CLASSES)[2] == ("Washington, D.C.",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "cat\ndog\n", "has 2 lines, but the data has 3 classes, from 'n01' to 'n03'"),
        ("names.txt", "cat\n,\ncrane", "line 2 has no name"),
        ("names.txt", "cat\n[dog]\ncrane", r"line 2 is no list in JSON"),
        ("names.txt", 'cat\n["dog", 3]\ncrane', r"line 2 is \['dog', 3\]; expected a name or a l"),
        ("names.txt", 'cat\n["dog", " "]\ncrane', r"line 2 has no name, or an empty one"),
        ("names.json", '["cat"]', "has 1 name, but the data has 3 classes"),
        ("names.json", '["cat", 2, "crane"]', "class 1 is 2; expected a name or a list"),
        (
            "names.json",
            '{"n01": "cat"}',
            "lacks 2 of the 3 classes, such as 'n02'; did you mean 'n01'",
        ),
        ("names.json", '"cat"', r"is no list of names; expected \[\"cat\""),
        ("names.json", "[", "names.json is damaged"),
        (
            "names.json",
            json.dumps(dict.fromkeys([*CLASSES, "n003"], "cat")),
            "names 'n003', which is no class of the data; did you mean 'n03'",
        ),
    ],
)
def test_names_that_are_not_those_of_the_classes_are_refused(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        read_names(written(tmp_path, text, name), CLASSES)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.txt cannot be read: No such file"):
        read_names(tmp_path / "gone.txt", CLASSES)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 {}")
    for read in (lambda file: read_names(file, CLASSES), read_templates):
        with pytest.raises(UserError, match=r"latin.txt cannot be read: .*utf-8"):
            read(tmp_path / "latin.txt")


def test_the_datas_own_names_have_spaces():
    assert own_names(("golden_retriever", "cat")) == (("golden retriever",), ("cat",))


def test_templates_are_lines_with_a_place_for_the_name(tmp_path):
    file = written(tmp_path, "{}\n\n  art of the {}, {} \n", "templates.txt")
    assert read_templates(file) == ("{}", "art of the {}, {}")
    assert prompts(("cat", "tom"), read_templates(file)) == (
        "cat",
        "art of the cat, cat",
        "tom",
        "art of the tom, tom",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}\na photo\n", r"line 2, 'a photo', has no \{\}"), ("\n", "has no templates; expected")],
)
def test_templates_without_a_place_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_templates(written(tmp_path, text))


def test_eight_templates_are_there_where_none_are_given():
    assert len({*TEMPLATES}) == 8 and all(one.count(PLACE) == 1 for one in TEMPLATES)
    assert prompts(["{brace}"])[:2] == ("{brace}", "a picture of {brace}")
