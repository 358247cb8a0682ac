"""Data sets as `datasets` saves them, here written by Arrow in the same layout."""

import io
import itertools
import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from image_tables import FEATURES, NAMES, blob, damage, encoded, png, table

from distill.data import open_source
from distill.data.sources import reading
from distill.errors import RunFailed, UserError

END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def write(file, content, rows=4, options=None):
    """A stream of batches of so many rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(file, content.schema, options=options) as out:
        for start in range(0, content.num_rows, rows):
            out.write_table(content.slice(start, rows).combine_chunks())
    assert file.read_bytes().endswith(END)
    return file


def save(folder, *parts, split=None, **state):
    """As Dataset.save_to_disk does, a shard for each part."""
    names = [f"data-{n:05}-of-{len(parts):05}.arrow" for n in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write(folder / name, part)
    files = [{"filename": name} for name in names]
    about = {"_data_files": files, "_fingerprint": "0", "_split": split}
    (folder / "state.json").write_text(json.dumps(about | state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    return folder


def opened(path, split="train"):
    return open_source(f"hf:{path}", split, channels=3)


def test_every_row_of_a_saved_data_set_is_read(tmp_path):
    blobs = [blob(n) for n in range(30)]
    blobs[7] = None
    parts = [table(blobs[:19], paths=[None] * 19), table(blobs[19:])]
    source = opened(save(tmp_path / "flowers", *parts, split="train"))
    expected = list(blobs)
    expected[7] = "there is no image in this row, it is null"
    assert encoded(source) == expected
    assert source.class_names == NAMES
    assert source.labels.tolist() == [n % 3 for n in range(19)] + [n % 3 for n in range(11)]
    assert source.name(20) == "data-00001-of-00002.arrow/1"
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert encoded(again) == expected and again.fingerprint == source.fingerprint
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        opened(tmp_path / "flowers", "test")


def test_images_of_null_rows_are_missing_though_their_bytes_are_there(tmp_path):
    images = pa.StructArray.from_arrays(
        [pa.array([b"a", b"b"]), pa.array([None, None], pa.string())],
        ["bytes", "path"],
        mask=pa.array([False, True]),
    )
    write(tmp_path / "x-train.arrow", pa.table({"image": images, "label": [0, 1]}))
    assert encoded(opened(tmp_path)) == [b"a", "there is no image in this row, it is null"]


def test_splits_are_folders(tmp_path):
    for split, first in {"train": 0, "test": 10}.items():
        save(tmp_path / split, table([blob(n) for n in range(first, first + 10)]))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert encoded(opened(tmp_path)) == [blob(n) for n in range(10)]
    assert encoded(opened(tmp_path, "test")) == [blob(n) for n in range(10, 20)]


def test_splits_are_drawn_where_none_is_named(tmp_path):
    blobs = [blob(n) for n in range(50)]
    save(tmp_path, table(blobs))
    drawn = [encoded(opened(tmp_path, split)) for split in ("train", "validation", "test")]
    assert sorted(itertools.chain(*drawn)) == sorted(blobs) and all(drawn)


def test_a_cache_is_read_by_the_names_of_its_files(tmp_path):
    blobs = [blob(n) for n in range(30)]
    for part in range(2):
        write(tmp_path / f"flowers-train-0000{part}-of-00002.arrow", table(blobs[part * 10 :][:10]))
    write(tmp_path / "flowers-test.arrow", table(blobs[20:]))
    write(tmp_path / "cache-0123456789abcdef.arrow", table(blobs))
    assert encoded(opened(tmp_path)) == blobs[:20]
    assert encoded(opened(tmp_path, "test")) == blobs[20:]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_columns_of_bytes_and_files_for_random_access_are_read(tmp_path, kind):
    content = table([blob(n) for n in range(9)], nested=False)
    content = content.set_column(1, "image", content.column("image").cast(kind))
    with pa.ipc.new_file(tmp_path / "train.arrow", content.schema) as out:
        out.write_table(content, max_chunksize=4)
    assert encoded(opened(tmp_path)) == [blob(n) for n in range(9)]
    assert "cut off" not in opened(tmp_path).found


def test_images_are_decoded(tmp_path):
    save(tmp_path, table([png(n) for n in range(3)]), split="train")
    example = opened(tmp_path).read(2)
    assert np.asarray(example["image"]).shape == (6, 5, 3) and example["label"] == 2


def test_images_outside_are_read_from_their_files(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(7))
    paths = [str(tmp_path / "photos" / "a.png"), "photos/a.png"]
    write(tmp_path / "x-train.arrow", table([None, None], paths=paths))
    assert encoded(opened(tmp_path)) == [png(7)] * 2


def test_a_name_of_the_hub_says_how_to_save_it():
    with pytest.raises(UserError, match=r"load_dataset\(NAME\)\.save_to_disk\(PATH\)"):
        opened("uoft-cs/cifar10")


def test_rows_chosen_apart_are_refused(tmp_path):
    save(tmp_path, table([png(0)]), _indices_files=[{"filename": "indices.arrow"}])
    with pytest.raises(UserError, match=r"flatten_indices\(\)"):
        opened(tmp_path)


def test_compressed_streams_are_refused(tmp_path):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    write(tmp_path / "train.arrow", table([bytes(5000)] * 3), options=options)
    with pytest.raises(UserError, match=r"train\.arrow is compressed"):
        opened(tmp_path)


def test_a_lacking_file_is_named(tmp_path):
    save(tmp_path, table([png(0)]), table([png(1)]))
    (tmp_path / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(UserError, match=r"lacks data-00001-of-00002\.arrow"):
        opened(tmp_path)


@pytest.mark.parametrize("kept", [0, 200, -2000])
def test_a_truncated_stream_is_named(tmp_path, kept):
    file = write(tmp_path / "train.arrow", table([blob(n) for n in range(9)]))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"train\.arrow is damaged or no Arrow stream"):
        opened(tmp_path)


def test_a_stream_without_its_end_is_remarked_on(tmp_path):
    file = write(tmp_path / "train.arrow", table([blob(n) for n in range(9)]))
    file.write_bytes(file.read_bytes().removesuffix(END))
    assert "train.arrow lacks the mark at its end and may be cut off" in opened(tmp_path).found


def test_streams_without_rows_are_passed_over(tmp_path):
    content = table([blob(1)])
    save(tmp_path, content.slice(0, 0), content, split="train")
    assert encoded(opened(tmp_path)) == [blob(1)]
    save(tmp_path, split="train")
    with pytest.raises(UserError, match=r"state\.json names no files"):
        opened(tmp_path)


@pytest.mark.parametrize("state", ["{}", "[]", "{", '{"_data_files": [1]}'])
def test_a_damaged_state_is_named(tmp_path, state):
    save(tmp_path, table([blob(1)]))
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"state\.json is damaged"):
        opened(tmp_path)


def test_a_damaged_stream_is_named(tmp_path):
    file = write(tmp_path / "train.arrow", table([blob(n) for n in range(9)]))
    damage(file, 0, bytes(range(256)))
    with pytest.raises(UserError, match=r"train\.arrow is damaged or no Arrow stream"):
        opened(tmp_path)


@pytest.mark.parametrize("offset", [-7, 1 << 30])
def test_an_image_that_would_lie_elsewhere_is_named(tmp_path, offset):
    blobs = [blob(0), blob(1)]
    file = write(tmp_path / "train.arrow", table(blobs))
    first, both = len(blobs[0]), len(blobs[0] + blobs[1])
    before, after = (np.array([0, one, both], "<i4").tobytes() for one in (first, offset))
    data = file.read_bytes()
    assert data.count(before) == 1
    file.write_bytes(data.replace(before, after))
    with pytest.raises(UserError, match=r"train\.arrow is damaged.*an image would lie outside"):
        opened(tmp_path)


def test_other_files_are_named_by_what_reads_them(tmp_path):
    (tmp_path / "train.parquet").write_bytes(io.BytesIO().getvalue())
    with pytest.raises(UserError, match=r"holds train\.parquet.*parquet:PATH"):
        opened(tmp_path)


def test_a_stream_that_changes_while_it_is_in_use_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    save(tmp_path, table([png(0), png(1)]), split="train")
    source = opened(tmp_path)
    save(tmp_path, table([png(0), png(1), png(2)]), split="train")
    with pytest.raises(RunFailed, match=r"data-00000-of-00001\.arrow has changed"):
        source.encoded(0)
    assert len(opened(tmp_path)) == 3
    assert opened(tmp_path).fingerprint != source.fingerprint


def test_whatever_byte_is_damaged_it_is_read_or_named(tmp_path):
    file = write(tmp_path / "data" / "data-00000-of-00001.arrow", table([b"one", b"two", b"three"]))
    whole, named = file.read_bytes(), 0
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0x91
        file.write_bytes(changed)
        try:
            source = open_source(f"hf:{file.parent}", "train", channels=3)
            assert all(-1 <= label < max(len(source.class_names), 1) for label in source.labels)
        except UserError:
            named += 1
    assert named > 10
