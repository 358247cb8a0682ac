"""The index of shards is built once, again where they change, and never half."""

import fcntl
import os
import pickle
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from tar_shards import numbers, opened, pack, samples

from distill.data.sources import image_index, webdataset
from distill.data.sources.image_index import (
    ENTRY,
    DamagedIndex,
    ImageIndex,
    Label,
    Shard,
    ShardImages,
    write_index,
)
from distill.errors import RunFailed, UserError

INDEX = ".distill-wds.index"


@pytest.fixture
def shards(tmp_path):
    for place in range(3):
        pack(tmp_path / f"train-{place}.tar", samples(range(place * 10, place * 10 + 10)))
    return tmp_path


@pytest.fixture
def scanned(monkeypatch):
    """The shards that were read, by name."""
    names, scan = [], webdataset._scan

    def counted(path, shard):
        names.append(shard.name)
        return scan(path, shard)

    monkeypatch.setattr(webdataset, "_scan", counted)
    return names


def test_what_is_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    labels = [*(Label(str(n)) for n in range(19)), None, Label("a", is_folder=True)]
    content = []
    for place, count in enumerate((3, 0, 1000)):
        names = [rng.bytes(int(rng.integers(1, 40))).replace(b"\0", b"x") for _ in range(count)]
        offsets, lengths = rng.integers(1 << 60, size=(2, count)).tolist()
        shard = Shard(f"{place}.tar", place, place, remarks=("odd",), left_out={".txt": 2})
        chosen = [labels[n % 21] for n in range(count)]
        content.append(ShardImages.of(shard, names, offsets, lengths, chosen))
    path = str(tmp_path / "an.index")
    write_index(path, "test", content)
    index = ImageIndex(path, "/root")
    assert ENTRY.itemsize <= 40 and os.path.getsize(path) < 1003 * (32 + 40) + 1000
    assert index.kind == "test" and index.shards == tuple(one.shard for one in content)
    # In one order, whatever the process: the index is the same wherever it is built.
    assert index.labels == tuple(sorted(label for label in labels if label))
    assert index.starts.tolist() == [0, 3, 3, 1003]
    for one, again in zip(content, index.shard_images().values(), strict=True):
        assert one.shard == again.shard and one.names == again.names
        for field in ("offset", "length", "name_end"):
            np.testing.assert_array_equal(one.entries[field], again.entries[field])
        texts = [
            [images.labels[n] for n in images.entries["label"] if n >= 0] for images in (one, again)
        ]
        assert texts[0] == texts[1]
    names = content[2].names[: content[2].entries["name_end"][0]]
    assert index.name(3) == os.fsdecode(names)
    rows = np.array([1002, 0, 3])
    assert index.paths(rows) == [os.fsencode(index.path_of(row)) for row in rows]


def test_shards_that_are_as_they_were_are_not_read_again(shards, scanned):
    opened(shards)
    assert sorted(scanned) == ["train-0.tar", "train-1.tar", "train-2.tar"]
    opened(shards)
    assert len(scanned) == 3
    pack(shards / "train-1.tar", samples(range(50, 55)))
    pack(shards / "train-3.tar", samples([60]))
    os.unlink(shards / "train-0.tar")
    assert numbers(opened(shards)) == [*range(50, 55), *range(20, 30), 60]
    assert sorted(scanned[3:]) == ["train-1.tar", "train-3.tar"]
    os.utime(shards / "train-2.tar", ns=(1, 1))
    opened(shards)
    assert scanned[5:] == ["train-2.tar"]


def test_an_index_does_not_depend_on_how_it_came_about(shards):
    pack(shards / "train-1.tar", samples([5], classes=1))
    opened(shards)
    pack(shards / "train-1.tar", samples(range(50, 55), classes=4))
    opened(shards)
    grown = (shards / INDEX).read_bytes()
    os.unlink(shards / INDEX)
    opened(shards)
    assert (shards / INDEX).read_bytes() == grown


def damage(kind, path):
    data = bytearray(path.read_bytes())
    if kind == "cut":
        data = data[:-1]
    elif kind == "header":
        data = data[:50]
    elif kind == "changed":
        data[-100] ^= 1
    else:
        data = {"empty": b"", "foreign": b"Rar!" * 100}[kind]
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["cut", "header", "changed", "empty", "foreign"])
def test_a_damaged_or_foreign_index_is_named_and_built_again(shards, scanned, caplog, kind):
    before = opened(shards).fingerprint
    damage(kind, shards / INDEX)
    with pytest.raises(DamagedIndex):
        ImageIndex(str(shards / INDEX), str(shards))
    assert opened(shards).fingerprint == before and len(scanned) == 6
    assert f"index {shards / INDEX} cannot be used" in caplog.text
    opened(shards)
    assert len(scanned) == 6


def test_an_index_of_another_kind_is_built_again(shards, caplog):
    write_index(str(shards / INDEX), "other", [])
    assert len(opened(shards)) == 30 and "it is of other" in caplog.text


def test_where_data_cannot_be_written_the_index_lies_in_the_cache(
    shards, scanned, tmp_path_factory, monkeypatch
):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    written = image_index.write_whole

    def refused(path, parts):
        if path.startswith(str(shards)):
            raise PermissionError(13, "Permission denied", path)
        written(path, parts)

    monkeypatch.setattr(image_index, "write_whole", refused)
    assert numbers(opened(shards)) == list(range(30))
    assert not (shards / INDEX).exists() and len(list(cache.rglob("*.index"))) == 1
    opened(shards)
    assert len(scanned) == 3
    blocked = shards / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(UserError, match=r"cannot be written.*Permission denied.*XDG_CACHE_HOME"):
        opened(shards)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_an_index_has_the_rights_that_the_umask_leaves(shards, umask):
    before = os.umask(umask)
    try:
        opened(shards)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(shards / INDEX).st_mode) == 0o666 & ~umask


def test_an_index_whose_writing_is_interrupted_leaves_nothing(shards, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(image_index.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(shards)
    assert sorted(os.listdir(shards)) == ["train-0.tar", "train-1.tar", "train-2.tar"]


def test_what_killed_processes_left_of_an_index_goes_with_the_next(tmp_path):
    path = str(tmp_path / INDEX)
    empty, half, own = (Path(f"{path}.{name}.tmp") for name in ("empty", "half", "own"))
    empty.touch()
    half.write_bytes(b"half")
    other = tmp_path / "other.tmp"
    other.touch()
    with own.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_index(path, "test", [])
    assert sorted(tmp_path.iterdir()) == sorted([Path(path), own, other])


def test_several_may_build_an_index_at_once(shards):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(numbers(opened(shards)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(30))] * 6
    assert sorted(os.listdir(shards))[0] == INDEX and len(os.listdir(shards)) == 4


def test_a_shard_that_changes_while_it_is_indexed_is_named(shards, monkeypatch):
    scan = webdataset._scan

    def changed(path, shard):
        images = scan(path, shard)
        if shard.name == "train-1.tar":
            os.utime(path)
        return images

    monkeypatch.setattr(webdataset, "_scan", changed)
    with pytest.raises(UserError, match=r"train-1\.tar changes while it is indexed"):
        opened(shards)


def test_a_worker_notices_that_the_index_is_another_one(shards):
    data = pickle.dumps(opened(shards))
    pack(shards / "train-0.tar", samples([7]))
    opened(shards)
    with pytest.raises(RunFailed, match="is another one than at the start"):
        pickle.loads(data)  # noqa: S301
    os.unlink(shards / INDEX)
    with pytest.raises(RunFailed, match="cannot be opened again"):
        pickle.loads(data)  # noqa: S301


def test_places_are_of_folders_and_patterns(shards):
    opened(shards)
    opened(shards / "train-*.tar")
    opened(shards / "train-{0..1}.tar")
    assert len([name for name in os.listdir(shards) if name.endswith(".index")]) == 3
