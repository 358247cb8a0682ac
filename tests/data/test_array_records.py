"""ArrayRecord files of images, and of TensorFlow's examples."""

import os
import pickle
import time

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from tar_shards import encoded, numbers
from tensorflow_datasets.proto import tf_example_generated_pb2 as protos

from distill.data import open_source
from distill.data.sources import reading
from distill.data.sources.example_protos import parse_example
from distill.errors import RunFailed, UserError


def varint(value):
    value %= 1 << 64
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features, packed=True):
    """A tf.train.Example, for which Protocol Buffers are the reference below."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            kind = field(1, field(1, value))
        elif isinstance(value, float):
            kind = field(2, field(1, np.float32(value).tobytes()))
        else:
            numbers = varint(value)
            kind = field(3, field(1, numbers) if packed else b"\x08" + numbers)
        entries += field(1, field(1, name.encode()) + field(2, kind))
    return field(1, entries)


def write(path, records):
    path.parent.mkdir(exist_ok=True)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def opened(root, split="train"):
    return open_source(f"array_record:{root}", split, channels=3)


@pytest.fixture
def records(tmp_path):
    """Examples as TFDS writes them, 12 to train on and 4 to test on."""
    for split, start, count in (("train", 0, 12), ("test", 20, 4)):
        write(
            tmp_path / f"set-{split}.array_record-00000-of-00001",
            [
                example({"image": encoded(n), "label": n % 3, "file_name": b"%d.png" % n, "x": 0.5})
                for n in range(start, start + count)
            ],
        )
    (tmp_path / "dataset_info.json").write_text('{"name": "set", "splits": []}')
    (tmp_path / "label.labels.txt").write_text("ant\nbee\ncat\n")
    return tmp_path


def test_examples_are_read_with_label_and_name(records):
    source = opened(records)
    assert numbers(source) == list(range(12)) and source.class_names == ("ant", "bee", "cat")
    assert source.labels.tolist() == [n % 3 for n in range(12)]
    assert source.name(3) == "set-train.array_record-00000-of-00001/3.png"
    assert numbers(opened(records, "test")) == [20, 21, 22, 23]
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert numbers(again) == numbers(source)


def test_records_may_be_images_themselves(tmp_path):
    write(tmp_path / "train" / "0.array_record", map(encoded, range(5)))
    source = opened(tmp_path)
    assert numbers(source) == list(range(5))
    assert source.class_names == () and source.labels.tolist() == [-1] * 5
    assert source.name(4) == "train/0.array_record/4"


def test_features_are_those_of_protocol_buffers():
    features = {"a": [b"\x00\xff" * 300, b"b"], "é": [-1, 7], "big": [1 << 40], "x": [0.25, -2.0]}
    record = protos.Example()
    for name, values in features.items():
        feature = record.features.feature[name]
        kinds = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
        kinds[type(values[0])].value.extend(values)
    assert parse_example(record.SerializeToString()) == features
    # What the other tests write is what they read.
    ours = example({"image": b"x" * 200, "label": -5})
    feature = protos.Example.FromString(ours).features.feature
    assert feature["image"].bytes_list.value == [b"x" * 200]
    assert feature["label"].int64_list.value == [-5]


def test_numbers_that_are_not_packed_are_read():
    assert parse_example(example({"label": 300}, packed=False)) == {"label": [300]}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_an_example_that_is_cut_is_none(cut):
    with pytest.raises(ValueError, match="cut off"):
        parse_example(example({"image": b"x" * 50, "label": 3})[:-cut])


def test_an_example_without_an_image_is_named(tmp_path):
    path = write(tmp_path / "train.array_record", [example({"picture": b"x", "label": 1})])
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert f"{path}, record 0 has no feature 'image' of bytes; it has 'picture', 'label'" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([1, 2], "has 2 values in feature 'label'; expected one"),
        ([b"ant", b"bee"], "has 2 values in feature 'label'; expected one"),
        ([1.5], "has the label 1.5, a float; expected a whole number"),
    ],
)
def test_an_image_has_one_class(tmp_path, label, said):
    records = []
    for values in ([0], label):
        record = protos.Example()
        record.features.feature["image"].bytes_list.value.append(encoded(len(records)))
        feature = record.features.feature["label"]
        kinds = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
        kinds[type(values[0])].value.extend(values)
        records.append(record.SerializeToString())
    path = write(tmp_path / "train.array_record", records)
    with pytest.raises(UserError, match=f"{path}, record 1 {said}"):
        opened(tmp_path)


def test_a_damaged_file_is_named_at_once(records, monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    path = records / "set-train.array_record-00000-of-00001"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=f"{path} is damaged: it is no ArrayRecord file, or"):
        opened(records)
    changed = bytearray(data)
    changed[data.index(b"3.png") + 1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(UserError, match=f"{path} is damaged: Corrupted Riegeli.*Copy it again"):
        opened(records)


def test_a_file_that_changes_while_training_is_named(records, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    source = opened(records)
    path = records / "set-train.array_record-00000-of-00001"
    assert numbers(source)
    os.utime(path)
    with pytest.raises(RunFailed, match=f"{path} has changed since it was indexed"):
        source.read(0)


def test_a_file_without_records_is_named(records):
    write(records / "set-train.array_record-00001-of-00002", [])
    assert "set-train.array_record-00001-of-00002 holds no images" in opened(records).found
