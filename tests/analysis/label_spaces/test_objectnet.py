"""ObjectNet's folders and ImageNet's classes, by the names that ObjectNet publishes.

The three files in `data` are ObjectNet's own (MIT; `PROVENANCE.md` of `label_spaces/data` has its
terms), packed: objectnet_to_imagenet_1k.json of abarbu/objectnet-template-tensorflow at ec2a8526,
the other two of ObjectNet's mappings, copied from mlfoundations/wise-ft at 58b7a4b3.
"""

import gzip
import json
from pathlib import Path

import pytest

from distill.analysis.label_spaces.data_files import read_data
from distill.analysis.label_spaces.label_space import known_label_spaces

DATA = Path(__file__).parent / "data"
SPACE = known_label_spaces()["objectnet"]


def _text(name: str) -> str:
    return gzip.decompress((DATA / name).read_bytes()).decode()


@pytest.fixture(scope="module")
def by_names() -> dict[str, set[int]]:
    """Of each folder ImageNet's numbers, found by the names of both."""
    ours = {
        theirs: int(n)
        for n, theirs in json.loads(_text("pytorch_to_imagenet_2012_id.json.gz")).items()
    }
    lines = _text("imagenet_to_label_2012_v2.txt.gz").splitlines()
    number = {line.strip(): ours[place] for place, line in enumerate(lines)}
    called = json.loads(_text("objectnet_to_imagenet_1k.json.gz"))
    return {
        folder: {number[name] for name in called[label].split("; ")}
        for folder, label in read_data("folder_to_objectnet_label.json").items()
        if label in called
    }


def test_the_table_says_what_the_names_say(by_names):
    found = dict(zip(SPACE.class_names, map(set, SPACE.members), strict=True))
    assert found == by_names


def test_113_folders_stand_for_125_classes_nine_for_several():
    assert len(SPACE.class_names) == 113
    assert len({number for members in SPACE.members for number in members}) == 125
    several = {n: {*m} for n, m in zip(SPACE.class_names, SPACE.members, strict=True) if len(m) > 1}
    assert len(several) == 9
    assert several["alarm_clock"] == {409, 530} and several["chair"] == {423, 559, 765}


def test_the_official_table_counts_labels_not_folders(by_names):
    # By the ranks of folders, 45 of 125 classes would be another folder's.
    folders = sorted(read_data("folder_to_objectnet_label.json"))
    table = read_data("imagenet_pytorch_id_to_objectnet_id.json")
    wrong = [n for n, place in table.items() if int(n) not in by_names.get(folders[place], ())]
    assert len(wrong) == 45


def test_images_of_other_folders_do_not_count():
    assert SPACE.accepted("objectnet-1.0/images/air_freshener/one.png") == ()
    (place,) = SPACE.accepted("objectnet-1.0/images/alarm_clock/one.png")
    assert SPACE.class_names[place] == "alarm_clock"
