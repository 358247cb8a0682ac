"""Prepared images in tars are those in ArrayRecord files."""

import dataclasses
import json
import tarfile

import jpegs
import pytest

from distill.data import open_source
from distill.data.preparing import Preparation, prepare, verify
from distill.data.sources.base import CorruptImage
from distill.errors import UserError


@pytest.fixture
def records(tmp_path):
    """Three JPEGs and an empty file, to be written as records."""
    for number in range(4):
        file = tmp_path / "photos" / "train" / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = jpegs.photograph(70, 90, seed=number)
        file.write_bytes(jpegs.pillow(pixels, quality=80) if number else b"")
    return Preparation(
        source=f"folder:{tmp_path}/photos",
        output=tmp_path / "records",
        splits=("train",),
        workers=0,
        images_per_shard=3,
    )


def test_tars_hold_the_same(records, tmp_path):
    tars = dataclasses.replace(records, output=tmp_path / "tars", form="tar")
    found = []
    for one in (records, tars):
        prepare(one, lambda line: None)
        assert verify(one, lambda line: None, all_images=True) == 4
        found.append(open_source(f"prepared:{one.output}", "train", channels=3))
    one, other = found
    assert one.fingerprint == other.fingerprint
    for index in range(1, 4):
        assert one.encoded(index) == other.encoded(index)
        assert one.name(index) == other.name(index)
    with pytest.raises(CorruptImage):
        other.read(other.labels.tolist().index(0))
    shard = min(tars.output.glob("*.tar"))
    content = shard.read_bytes()
    shard.unlink()
    prepare(tars, lambda line: None)
    assert shard.read_bytes() == content
    with tarfile.open(shard) as tar:
        assert [one.name for one in tar] == ["00000000.image", "00000001.jpg", "00000002.jpg"]


def test_tars_and_records_are_not_mixed(records, tmp_path):
    tars = dataclasses.replace(records, output=tmp_path / "tars", form="tar")
    for one, other in ((records, "tar"), (tars, "array_record")):
        prepare(one, lambda line: None)
        with pytest.raises(UserError, match=f"was prepared with --shards={one.form}"):
            prepare(dataclasses.replace(one, form=other), lambda line: None)


def test_what_an_earlier_version_has_begun_is_finished_in_its_form(records, tmp_path):
    prepare(records, lambda line: None)
    shards = {file.name: file.read_bytes() for file in records.output.glob("*.array_record")}
    claim = {
        "restarts": True,
        "splits": {"train": open_source(records.source, "train", channels=3).fingerprint},
        "shards": {"train": 2},
    }
    output = tmp_path / "begun"
    (output / "unfinished").mkdir(parents=True)
    (output / "unfinished/claim.json").write_text(json.dumps(claim))
    begun = dataclasses.replace(records, output=output)
    with pytest.raises(UserError, match=r"that is not finished \(form differ"):
        prepare(dataclasses.replace(begun, form="tar"), lambda line: None)
    prepare(begun, lambda line: None)
    assert {file.name: file.read_bytes() for file in output.glob("*.array_record")} == shards
