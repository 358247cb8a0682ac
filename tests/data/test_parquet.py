"""Parquet files read row by row give what Arrow reads of whole files."""

import io
import itertools
import os
import pickle
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_tables import NAMES, blob, damage, encoded, png, table, write_parquet

from distill.data import DataConfig, TrainLoader, open_source
from distill.data.sources import CorruptImage, reading
from distill.data.sources import parquet as parquet_source
from distill.data.sources.tables import pages
from distill.errors import RunFailed, UserError


def opened(path, split="train", **options):
    return open_source(f"parquet:{path}", split, channels=3, **options)


LAYOUTS = {
    "plain": {"use_dictionary": False},
    "by dictionary": {"use_dictionary": True, "dictionary_pagesize_limit": 1 << 20},
    "dictionary given up": {"use_dictionary": True, "dictionary_pagesize_limit": 9000},
    "one value": {"use_dictionary": True},
    "delta": {"use_dictionary": False, "column_encoding": {"image.bytes": "DELTA_BYTE_ARRAY"}},
    "lengths apart": {
        "use_dictionary": False,
        "column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"},
    },
}


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_is_what_arrow_reads(tmp_path, codec, version, layout):
    blobs = [blob(0 if layout == "one value" else n % 50) for n in range(64)]
    blobs[3] = blobs[40] = blobs[41] = None
    blobs[5] = b""
    file = write_parquet(
        tmp_path / "train-00000-of-00001.parquet",
        table(blobs, paths=[None] * len(blobs)),
        compression=codec,
        data_page_version=version,
        data_page_size=4000,
        write_batch_size=4,
        row_group_size=30,
        **LAYOUTS[layout],
    )
    expected = pq.read_table(file).column("image").to_pylist()
    assert [row["bytes"] for row in expected] == blobs
    found = encoded(opened(file))
    assert [found[3], found[40]] == ["there is no image in this row, it is null"] * 2
    assert found[5] == "it is empty, 0 bytes"
    for index, data in enumerate(blobs):
        if data:
            assert found[index] == data


@pytest.mark.parametrize("checksums", [False, True])
@pytest.mark.parametrize("codec", ["none", "snappy"])
def test_columns_may_be_flat_and_required(tmp_path, codec, checksums):
    blobs = [blob(n) for n in range(40)]
    content = table(blobs, nested=False)
    content = content.cast(
        pa.schema([field.with_nullable(False) for field in content.schema], content.schema.metadata)
    )
    options = {"compression": codec, "row_group_size": 7, "write_page_checksum": checksums}
    file = write_parquet(tmp_path / "train.parquet", content, use_dictionary=False, **options)
    assert encoded(opened(file)) == blobs


def test_an_image_is_read_without_the_rest_of_its_row_group(tmp_path, monkeypatch):
    blobs = [blob(n, 5000) for n in range(40)]
    whole = write_parquet(
        tmp_path / "train.parquet", table(blobs), compression="none", use_dictionary=False
    )
    read = []
    real = os.pread
    source = opened(whole)
    monkeypatch.setattr(
        os, "pread", lambda file, size, at: read.append(size) or real(file, size, at)
    )
    assert source.encoded(17) == blobs[17]
    assert read == [len(blobs[17])]


def test_rows_of_several_files_and_splits(tmp_path):
    blobs = [blob(n) for n in range(30)]
    for part in range(2):
        write_parquet(
            tmp_path / "data" / f"train-0000{part}-of-00002.parquet",
            table(blobs[part * 10 : part * 10 + 10]),
        )
    write_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", table(blobs[20:]))
    train = opened(tmp_path)
    assert encoded(train) == blobs[:20]
    assert encoded(opened(tmp_path / "data" / "train-*.parquet")) == blobs[:20]
    assert encoded(opened(tmp_path, "val")) == blobs[20:]
    assert train.class_names == NAMES
    assert train.labels.tolist() == [n % 3 for n in range(10)] * 2
    assert train.name(13) == "data/train-00001-of-00002.parquet/3"
    assert train.describe(13) == f"{tmp_path}/data/train-00001-of-00002.parquet/3"
    with pytest.raises(UserError, match=r"has no split 'test'; it has train, validation"):
        opened(tmp_path, "test")


def test_splits_are_drawn_of_files_that_name_none(tmp_path):
    blobs = [blob(n) for n in range(60)]
    write_parquet(tmp_path / "a" / "0.parquet", table(blobs))
    drawn = {split: encoded(opened(tmp_path / "a", split)) for split in ("train", "val", "test")}
    assert sorted(itertools.chain(*drawn.values())) == sorted(blobs)
    assert len(drawn["train"]) > 35 and drawn["val"] and drawn["test"]
    # They stay where they are when files are added.
    write_parquet(tmp_path / "a" / "1.parquet", table([blob(n) for n in range(60, 70)]))
    assert encoded(opened(tmp_path / "a", "val"))[: len(drawn["val"])] == drawn["val"]


def test_images_without_bytes_are_read_from_their_files(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(png(7))
    blobs, paths = [png(0), None, None], ["x", "photos/a.png", None]
    for codec in ("none", "snappy"):
        write_parquet(tmp_path / "train.parquet", table(blobs, paths=paths), compression=codec)
        assert encoded(opened(tmp_path)) == [
            png(0),
            png(7),
            "there is no image in this row, it is null",
        ]
    write_parquet(tmp_path / "train.parquet", table([None], [0], paths=["hf://datasets/x/0.jpg"]))
    with pytest.raises(UserError, match=r"row 0 has no bytes but .*hf://datasets/x/0\.jpg"):
        opened(tmp_path)


@pytest.mark.parametrize("kept", [0, 100, -5])
def test_a_truncated_file_is_named(tmp_path, kept):
    write_parquet(tmp_path / "train-0.parquet", table([png(0)]))
    file = write_parquet(tmp_path / "train-1.parquet", table([png(n) for n in range(9)]))
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"train-1\.parquet is damaged or no Parquet file"):
        opened(tmp_path)


def test_a_codec_that_there_is_not_is_named_before_arrow_ends_the_process(tmp_path):
    file = write_parquet(tmp_path / "train.parquet", table([png(0)]), compression="snappy")
    whole = file.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    told = 0
    for place in range(footer, len(whole) - 8):
        # As Thrift writes 32.
        changed = whole[:place] + b"\x40" + whole[place + 1 :]
        try:
            parquet_source._check_codecs(changed[footer:-8])
        except ValueError as error:
            if "unknown number" in str(error):
                file.write_bytes(changed)
                with pytest.raises(UserError, match=r"train\.parquet is damaged"):
                    opened(tmp_path)
                told += 1
    # One of each column's chunk.
    assert told >= 3


def first_page(file):
    return pq.ParquetFile(file).metadata.row_group(0).column(1).data_page_offset


def test_a_header_that_fits_nothing_is_found_when_the_index_is_built(tmp_path):
    file = write_parquet(tmp_path / "train.parquet", table([blob(n) for n in range(9)]))
    damage(
        file,
        pq.ParquetFile(file).metadata.row_group(0).column(1).dictionary_page_offset,
        b"\xff" * 30,
    )
    with pytest.raises(
        UserError, match=r"train\.parquet is damaged .*a page whose header is damaged"
    ):
        opened(tmp_path)


@pytest.mark.parametrize("checksum", [True, False])
def test_images_in_a_damaged_page_are_corrupt_and_others_are_read(tmp_path, checksum):
    blobs = [blob(n) for n in range(40)]
    file = write_parquet(
        tmp_path / "train.parquet",
        table(blobs),
        row_group_size=20,
        use_dictionary=False,
        write_page_checksum=checksum,
        write_statistics=False,
    )
    source = opened(tmp_path)
    damage(file, first_page(file) + 60, bytes(3000))
    reason = "fit its checksum" if checksum else "cannot be decompressed|do not fill it"
    with pytest.raises(CorruptImage, match=rf"page that .*({reason}).*, at byte \d+"):
        source.encoded(3)
    assert source.encoded(30) == blobs[30]


def test_a_damaged_row_group_that_arrow_reads_is_corrupt(tmp_path):
    blobs = [blob(n) for n in range(20)]
    content, encoding = table(blobs), {"image.bytes": "DELTA_BYTE_ARRAY"}
    options = {"row_group_size": 10, "use_dictionary": False, "column_encoding": encoding}
    file = write_parquet(tmp_path / "train.parquet", content, **options)
    source = opened(tmp_path)
    start = first_page(file)
    start += pages.parse_header(file.read_bytes()[start:]).size
    damage(file, start, b"\xff" * 5000)
    with pytest.raises(CorruptImage, match="data that Arrow does not read"):
        source.encoded(2)
    assert source.encoded(12) == blobs[12]


def test_a_file_that_changes_while_it_is_in_use_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    for codec in ("none", "snappy"):
        options = {"compression": codec, "use_dictionary": False}
        file = write_parquet(tmp_path / "train.parquet", table([png(0), png(1)]), **options)
        source = opened(tmp_path)
        before = source.fingerprint
        write_parquet(file, table([png(0), png(1), png(2)]), **options)
        with pytest.raises(RunFailed, match=r"train\.parquet has changed"):
            source.encoded(0)
        assert len(opened(tmp_path)) == 3
        assert opened(tmp_path).fingerprint != before


def test_the_fingerprint_is_of_the_files_wherever_they_lie(tmp_path):
    def fingerprint(folder, blobs, labels=(0, 1)):
        write_parquet(tmp_path / folder / "train.parquet", table(blobs, list(labels)))
        return opened(tmp_path / folder).fingerprint

    blobs = [blob(1, 500), blob(2, 500)]
    same = fingerprint("a", blobs)
    assert fingerprint("b", blobs) == same
    assert fingerprint("c", [blob(1, 500), blob(2, 600)]) != same
    assert fingerprint("d", blobs, (1, 0)) != same


def test_without_arrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_parquet(tmp_path / "train.parquet", table([png(0)]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[arrow\]'"):
        opened(tmp_path)


def test_workers_are_handed_little(tmp_path):
    count = 20_000
    blobs = [b"%d" % n for n in range(count)]
    write_parquet(tmp_path / "train.parquet", table(blobs))
    source = opened(tmp_path)
    source.encoded(0)
    pickled = pickle.dumps(source)
    assert len(pickled) < 16 * count
    again = pickle.loads(pickled)  # noqa: S301 (its own)
    assert [again.encoded(n) for n in (0, 7, count - 1)] == [blobs[0], blobs[7], blobs[-1]]
    assert again.fingerprint == source.fingerprint


def test_threads_read_what_one_reads(tmp_path):
    blobs = [blob(n) for n in range(80)]
    for codec in ("none", "snappy"):
        options = {"compression": codec, "data_page_size": 3000, "write_batch_size": 3}
        write_parquet(
            tmp_path / codec / "train.parquet", table(blobs), row_group_size=30, **options
        )
        source, wrong = opened(tmp_path / codec), []

        def check(seed, source=source, wrong=wrong):
            for index in np.random.default_rng(seed).permutation(80).tolist():
                if source.encoded(index) != blobs[index]:
                    wrong.append(index)

        threads = [threading.Thread(target=check, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


@pytest.fixture
def pages_read(monkeypatch):
    """The places of the pages that are read as a whole."""
    read, real = [], pages.read_page
    monkeypatch.setattr(pages, "read_page", lambda *a: read.append(a[1]) or real(*a))
    return read


def test_pages_are_kept_only_so_far(tmp_path, monkeypatch, pages_read):
    monkeypatch.setattr(parquet_source, "_KEPT", 20_000)
    blobs = [blob(n, 4000) for n in range(60)]
    options = {"data_page_size": 3000, "write_batch_size": 3, "use_dictionary": False}
    write_parquet(tmp_path / "train.parquet", table(blobs), compression="zstd", **options)
    source = opened(tmp_path)
    assert [source.encoded(n) for n in (0, 1, 2, 0)] == [blobs[n] for n in (0, 1, 2, 0)]
    assert len(pages_read) == 1
    assert [source.encoded(n) for n in (30, 50, 0)] == [blobs[30], blobs[50], blobs[0]]
    assert len(pages_read) == 4


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("by_dictionary", [True, False])
@pytest.mark.parametrize("codec", ["snappy", "none"])
def test_a_large_page_is_read_once_and_then_in_parts(
    tmp_path, monkeypatch, pages_read, codec, by_dictionary, version
):
    blobs = [blob(n, 30_000) for n in range(20)]
    blobs[4] = None
    options = {"use_dictionary": by_dictionary, "data_page_version": version}
    content = table(blobs, paths=[None] * 20)
    write_parquet(tmp_path / "train.parquet", content, compression=codec, **options)
    source = opened(tmp_path)
    assert source.encoded(0) == blobs[0]
    before, sizes, real = len(pages_read), [], os.pread
    assert before == (1 + by_dictionary if codec == "snappy" or by_dictionary else 0)
    monkeypatch.setattr(
        os, "pread", lambda file, size, at: sizes.append(size) or real(file, size, at)
    )
    assert encoded(source) == [
        data or "there is no image in this row, it is null" for data in blobs
    ]
    assert len(pages_read) == before and len(sizes) == 19
    # In Snappy's fragments of 64 KiB.
    assert max(sizes) <= (2 << 16) + 100


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    write_parquet(tmp_path / "train.parquet", table([png(n) for n in range(40)]), row_group_size=9)

    def batches(start, count):
        loader = TrainLoader(
            opened(tmp_path),
            DataConfig(),
            size=8,
            batch_size=16,
            seed=0,
            put=dict,
            next_example=start * 16,
        )
        found = [next(loader)["image"] for _ in range(count)]
        loader.close()
        return found

    assert np.array_equal(batches(0, 5)[3:], batches(3, 2))


def test_slices_are_disjoint_and_complete(tmp_path):
    blobs = [blob(n) for n in range(30)]
    write_parquet(tmp_path / "train.parquet", table(blobs))
    parts = [opened(tmp_path, split) for split in ("train[:40%]", "train[40%:]")]
    assert [len(part) for part in parts] == [12, 18]
    names = [part.name(n) for part in parts for n in range(len(part))]
    assert sorted(names) == sorted(f"train.parquet/{n}" for n in range(30))


def test_files_without_rows_are_passed_over(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", table([]))
    write_parquet(tmp_path / "train-1.parquet", table([blob(1)]))
    assert encoded(opened(tmp_path)) == [blob(1)]


def test_levels_as_they_were_written_long_ago_are_left_to_arrow():
    file = io.BytesIO()
    pq.write_table(table([blob(n) for n in range(9)]), file, use_dictionary=False)
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(1)
    page = file.getvalue()[chunk.data_page_offset :][: chunk.total_compressed_size]

    def unpack(data, size):
        return pa.decompress(data, size, codec="snappy")

    assert len(pages.values_of(page, 2, unpack, bytes).starts) == 9
    # Of 9 values, PLAIN, with levels RLE; then the same with levels BIT_PACKED.
    new, old = (bytes([0x15, 18, 0x15, 0, 0x15, encoding]) for encoding in (6, 8))
    assert page.count(new) == 1
    with pytest.raises(pages.OtherEncoding):
        pages.values_of(page.replace(new, old), 2, unpack, bytes)


def test_a_header_is_parsed_at_any_cut():
    """A header that is cut off is said to be, wherever that is."""
    file = io.BytesIO()
    pq.write_table(table([blob(n) for n in range(9)]), file, write_page_checksum=True)
    start = first_page(io.BytesIO(file.getvalue()))
    data = file.getvalue()[start : start + 5000]
    whole = pages.parse_header(data)
    assert whole.is_data and whole.values == 9 and whole.checksum is not None
    assert pages.parse_header(data[: whole.size]) == whole
    for cut in range(whole.size):
        with pytest.raises(pages.CutOff):
            pages.parse_header(data[:cut])
