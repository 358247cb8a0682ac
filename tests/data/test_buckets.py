"""Data in buckets is what it is on disks, by the stores' own protocols."""

import http
import io
import json
import shutil

import jax
import numpy as np
import pytest
from buckets import emulators
from image_tables import png, table, write_parquet
from PIL import Image
from support import final_params, pretrain_config, run_command, without_timings
from tar_shards import encoded, pack, samples

from distill.config import ConfigError, resolve
from distill.data import DataConfig, EvalLoader, open_source
from distill.data.preparing import Preparation, prepare, verify
from distill.data.sources import bucket_files, indexing, source_name
from distill.data.sources.base import is_remote
from distill.data.workers import chosen_threads
from distill.errors import RunFailed, UserError
from distill.json_files import read_json
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import pretrain

COUNT = 90


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request):
    with emulators.store(request.param) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Data of every format that is read from buckets, in a folder each."""
    root = tmp_path_factory.mktemp("data")
    for number in range(COUNT):
        name = ("drawn/{0}/{1}.png", "split/train/{0}/a b/é{1}.png")[number % 2]
        file = root / "folder" / name.format("xyz"[number % 3], number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(number))
    for number, name in enumerate("xyz"):
        (root / "folder/split/val" / name).mkdir(parents=True)
        (root / "folder/split/val" / name / "0.png").write_bytes(encoded(200 + number))
    (root / "folder/split/train/x/notes.txt").write_text("none")
    (root / "folder/split/train/x/.hidden.png").write_bytes(b"hidden")
    for number in range(3):
        members = samples(range(10 * number, 10 * number + 10))
        pack(root / f"wds/train-{number:02}.tar", members)
    pack(root / "wds/val-00.tar", samples(range(5)))
    (root / "wds/classes.txt").write_text("ant\nbee\ncat\n")
    lines = [f"../folder/drawn/{'xyz'[n % 3]}/{n}.png,{n % 3}" for n in range(0, COUNT, 2)]
    for kind in ("images", "masks"):
        (root / "masks/train" / kind).mkdir(parents=True)
    for number in range(4):
        image = encoded(number)
        (root / f"masks/train/images/{number}.png").write_bytes(image)
        width, height = Image.open(io.BytesIO(image)).size
        mask = Image.fromarray(np.full((height, width), number % 2, np.uint8))
        mask.save(root / f"masks/train/masks/{number}.png")
    (root / "lists").mkdir()
    (root / "lists/train.csv").write_text("\n".join(["path,label", *lines]))
    for name, options in {"plain": {"compression": "none"}, "packed": {}}.items():
        for number in range(2):
            content = table([png(one) for one in range(12 * number, 12 * number + 12)])
            options = options | {"row_group_size": 5}
            write_parquet(root / name / f"train-{number}.parquet", content, **options)
    source = f"folder:{root}/folder/split"
    about = Preparation(
        source=source, output=root / "prepared", workers=0, form="tar", images_per_shard=6
    )
    prepare(about, lambda line: None)
    assert verify(about, lambda line: None, all_images=True) == 48
    return root


@pytest.fixture(scope="module")
def url(store, local):
    return store.upload(local, "data")


SOURCES = {
    "folder:{}/folder/split/": "train[:40%]+val",
    "folder:{}/folder/drawn": "train",
    "images:{}/folder/drawn": "train[3:]",
    "wds:{}/wds": "train",
    "wds:{}/wds/train-{{00..02}}.tar": "train[7:]",
    "wds:{}/wds/*-0[01].tar": "val",
    "wds:{}/wds/val-00.tar": "val[1:3]",
    "list:{}/lists/train.csv": "train",
    "list:{}/lists": "train[-3:]",
    "parquet:{}/plain": "train",
    "parquet:{}/packed?image=image&label=label": "train",
    "prepared:{}/prepared": "train[:40%]+val",
    "masks:{}/masks?classes=2": "train",
}


def content(source):
    """All that a source says and holds."""
    examples = [source.read(index) for index in range(len(source))]
    arrays = [np.asarray(array) for example in examples for array in example.values()]
    names = [source.name(index) for index in range(len(source))]
    return arrays, source.labels.tolist(), names, source.class_names, source.found


@pytest.mark.parametrize("name", SOURCES)
def test_it_is_read_as_it_is_from_a_disk(store, local, url, name):
    split = SOURCES[name]
    store.weather.every, store.weather.failed = 10, 0
    try:
        remote = open_source(source_name(name.format(url)), split, channels=3)
        found = content(remote)
    finally:
        store.weather.every = None
    disk = open_source(name.format(local), split, channels=3)
    np.testing.assert_equal(found, content(disk))
    assert remote.describe(0).startswith(f"{url}/")
    if not name.startswith(("folder", "images", "list", "masks")):
        assert remote.fingerprint == disk.fingerprint
    assert is_remote(remote) and not is_remote(disk)
    if len(found[0]) > 10:
        assert store.weather.failed


def test_a_list_on_a_disk_may_name_images_in_buckets(store, url, tmp_path):
    store_of_another = f"{url}/folder/drawn//x/../x/0.png"
    (tmp_path / "0.png").write_bytes(encoded(0))
    (tmp_path / "train.tsv").write_text(f"path\tlabel\n0.png\ta\n{store_of_another}\tb\n")
    images = open_source(f"list:{tmp_path}/train.tsv", "train", channels=3)
    np.testing.assert_array_equal(images.read(0)["image"], images.read(1)["image"])
    assert is_remote(images) and len(images.fingerprint) == 16
    (tmp_path / "train.tsv").write_text("path\tlabel\nhttps://host/0.png\ta\n")
    with pytest.raises(UserError, match=r"line 2 has 'https://host/0\.png'"):
        open_source(f"list:{tmp_path}/train.tsv", "train", channels=3)


def test_a_folder_is_listed_once_for_all_splits(store, url):
    config = resolve(DataConfig, {"source": f"folder:{url}/folder/drawn"})
    before = store.weather.count
    splits = config.open_splits(channels=3)
    assert store.weather.count - before == 1
    assert sum(map(len, splits.opened.values())) == COUNT // 2
    before = store.weather.count
    assert len({one.fingerprint for one in splits.opened.values()}) == 3
    assert store.weather.count == before


@pytest.mark.parametrize("name", ["wds:{}/wds", "parquet:{}/plain", "parquet:{}/packed"])
def test_an_object_that_is_written_anew_is_named(store, local, name):
    folder = name.partition("{}/")[2]
    url = store.upload(local / folder, f"changing/{folder}")
    images = open_source(f"{name.partition(':')[0]}:{url}", "train", channels=3)
    before = content(images)
    files = sorted(file.name for file in (local / folder).glob("train-*"))
    objects = emulators.bucket.Bucket(url)
    anew = (local / folder / files[0]).read_bytes()
    objects.write(files[1], anew)
    images.read(0)
    with pytest.raises(RunFailed, match=rf"{url}/{files[1]} has changed since it was indexed"):
        images.read(len(images) - 1 if len(files) == 2 else 10)
    again = open_source(f"{name.partition(':')[0]}:{url}", "train", channels=3)
    first = len(before[0]) // len(files)
    np.testing.assert_equal(content(again)[0][:first], before[0][:first])
    np.testing.assert_equal(content(again)[0][first : 2 * first], before[0][:first])
    objects.delete(files[1])
    with pytest.raises(RunFailed, match=rf"there is no object {url}/{files[1]}"):
        again.read(len(again) - 1 if len(files) == 2 else 10)


@pytest.mark.parametrize("name", ["wds:{}/wds", "parquet:{}/packed"])
def test_an_index_is_found_again(store, url, name, monkeypatch):
    first = open_source(name.format(url), "train", channels=3)
    monkeypatch.setattr(indexing, "_scanned_shard", lambda *_: pytest.fail("it is read again"))
    before = store.weather.count
    again = open_source(name.format(url), "train", channels=3)
    assert again.fingerprint == first.fingerprint
    if name.startswith("wds"):
        # A list, a status of each of the four shards, and the list of classes.
        assert store.weather.count - before == 6


def test_odd_names_are_left_out_or_said(store):
    objects = emulators.bucket.Bucket(f"{store.url}/odd")
    for name in ("b/", "a/", "a/0.png", "a//1.png", "c", "c/3.png"):
        objects.write(name, encoded(1))
    images = open_source(f"folder:{objects.url}", "train", channels=3)
    assert images.class_names == ("a", "b", "c")
    assert {images.name(n) for n in range(len(images))} <= {"a/0.png", "c/3.png"}
    assert "left out 1 without a suffix, 1 object whose name is no path" in images.found
    listed = open_source(f"images:{objects.url}", "train", channels=3)
    assert [listed.name(n) for n in range(len(listed))] == ["a/0.png", "c/3.png"]
    for name, message in {
        "folder:{}/nothing": "image folder {}/nothing does not exist",
        "folder:{}/c": "image folder {}/c holds 3.png. Expected images in folders",
        "wds:{}/nothing": "{}/nothing of {}/nothing cannot be found",
        "wds:{}/x-*.tar": "no file is called {}/x-\\*.tar",
        "wds:{}/x-{{0..3}}.tar": "{}/x-0.tar and 3 others of",
        "wds:{}/a": "{}/a holds 0.png",
        "wds:{}/c": "{}/c holds 3.png, and no shards",
        "wds:{}/a/0.png": "{}/a/0.png has no tar header at byte 0|is cut off in the header",
        "list:{}/nothing.csv": "{}/nothing.csv cannot be read: No such file",
        "parquet:{}/a/0.png": "{}/a/0.png is damaged or no Parquet file",
        "prepared:{}/a": "{}/a holds no manifest.json",
        "prepared:{}/nothing": "{}/nothing is no directory",
    }.items():
        with pytest.raises(UserError, match=message.replace("{}", objects.url)):
            open_source(name.format(objects.url), "train", channels=3)


def test_a_bucket_that_may_not_be_used_is_said(store):
    url = f"{store.url}-of-nobody"
    with pytest.raises(UserError, match=f"{store.url[:5]}a is no bucket: .*bucket name"):
        open_source(f"folder:{store.url[:5]}a/data", "train", channels=3)
    with pytest.raises(UserError, match=f"there is a bucket '{emulators.BUCKET}-of-nobody'"):
        open_source(f"folder:{url}/data", "train", channels=3)
    store.weather.every, store.weather.status = 1, http.HTTPStatus.FORBIDDEN
    try:
        with pytest.raises(UserError, match="Check the credentials"):
            open_source(f"wds:{store.url}/data", "train", channels=3)
        with pytest.raises(UserError, match="Check the credentials"):
            emulators.bucket.Bucket(store.url).names("data/")
    finally:
        store.weather.every, store.weather.status = None, http.HTTPStatus.SERVICE_UNAVAILABLE


def test_prepared_records_are_refused_with_what_to_do(store, local, tmp_path):
    about = Preparation(source=f"folder:{local}/folder/split", output=tmp_path / "p", workers=0)
    prepare(about, lambda line: None)
    url = store.upload(tmp_path / "p", "records")
    with pytest.raises(UserError, match=r"distill prepare folder:.* --shards=tar"):
        open_source(f"prepared:{url}", "train", channels=3)


def test_a_prepared_shard_that_is_missing_or_shorter_is_said(store, local, tmp_path):
    shutil.copytree(local / "prepared", tmp_path / "p")
    manifest = json.loads((tmp_path / "p/manifest.json").read_text())
    one, two = (shard["name"] for shard in manifest["splits"]["train"]["shards"][:2])
    (tmp_path / "p" / one).write_bytes((tmp_path / "p" / one).read_bytes()[:-512])
    (tmp_path / "p" / two).unlink()
    url = store.upload(tmp_path / "p", "half")
    with pytest.raises(UserError, match=f"{one} and 1 others cannot be found with its size"):
        open_source(f"prepared:{url}", "train", channels=3)


def test_a_cache_that_cannot_be_written_is_said(url, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for name in ("prepared:{}/prepared", "wds:{}/wds"):
        with pytest.raises(UserError, match="Set XDG_CACHE_HOME to a directory"):
            open_source(name.format(url), "train", channels=3)


def test_a_source_in_a_bucket_is_prepared(store, url, local, tmp_path):
    source = f"wds:{url}/wds"
    about = Preparation(source=source, output=tmp_path / "p", workers=0, splits=("train",))
    prepare(about, lambda line: None)
    assert verify(about, lambda line: None, all_images=True) == 30


def test_decoded_images_are_kept(store, url, tmp_path):
    config = resolve(
        DataConfig, {"source": f"folder:{url}/folder/drawn", "cache": str(tmp_path / "cache")}
    )
    first = content(config.open("train", channels=3))[0]
    before = store.weather.count
    again = config.open("train", channels=3)
    found = [array for n in range(len(again)) for array in again.read(n).values()]
    np.testing.assert_equal(found, first)
    assert store.weather.count - before == 1


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_run_with_workers_is_that_of_a_disk_to_the_bit(store, url, local, tmp_path):
    store.weather.every, store.weather.failed = 10, 0
    for place, workers in ((local, 0), (url, 2)):
        workdir = tmp_path / str(workers)
        config = pretrain_config(
            data__source=f"folder:{place}/folder/drawn/",
            data__workers=workers,
            data__threads="none",
            model__num_classes=3,
            train__batch_size=8,
        )
        pretrain.run(config, Workdir(workdir), overview=False)
        if workers:
            store.weather.every = None
            recorded = read_json(workdir / "config.json")
            assert recorded["data"]["source"] == f"folder:{url}/folder/drawn"
            told = run_command("inspect", workdir)
            assert f"folder:{url}/folder/drawn, split train" in told.stdout, told.stderr
    assert store.weather.failed > 5
    one, two = (tmp_path / name for name in "02")
    assert without_timings(metrics.read(one)) == without_timings(metrics.read(two))
    jax.tree.map(np.testing.assert_array_equal, final_params(one), final_params(two))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("folder:s3://b/x//", "folder:s3://b/x"),
        ("folder:s3://b//x", None),
        ("folder:s3://b/x/", "folder:s3://b/x"),
        ("folder:gs://b", "folder:gs://b"),
        ("wds:gs://b/{train,val}-?.tar", "wds:gs://b/{train,val}-?.tar"),
        ("parquet:s3://b/x?label=y", "parquet:s3://b/x?label=y"),
        ("folder:s3://", None),
        ("folder:s3://b/../c", None),
        ("folder:s3://b/a\nb", None),
        ("array_record:s3://b/x", None),
        ("hf:gs://b/x", None),
        ("s3://b/x", None),
    ],
)
def test_names_are_kept_as_they_are_cleaned(name, kept):
    if kept is not None:
        assert resolve(DataConfig, {"source": name}).source == kept
        return
    with pytest.raises(ConfigError, match=r"config\.source is "):
        resolve(DataConfig, {"source": name})


def test_more_threads_wait_for_a_bucket_and_batches_are_the_same(url, local):
    found = []
    for place in (url, local):
        source = open_source(f"images:{place}/folder/drawn", "train", channels=3)
        config = DataConfig()
        assert chosen_threads(config.threads, source) == (32 if place is url else 4)
        assert chosen_threads(3, source) == 3
        loader = EvalLoader(source, config, size=8, batch_size=4, put=lambda batch: batch)
        found.append(list(loader))
    np.testing.assert_equal(*found)


def test_names_of_objects_are_folders_and_files():
    names = ["a/", "a//1", "a/b!", "a/b/c", "a/b/d/e", "a/b0", "a/c\n", "a/./x", "ab", "é/x"]
    objects = bucket_files._Objects(sorted(names))
    assert objects.entries("")[:2] == (["a", "é"], ["ab"])
    found = objects.entries("a")
    assert (found.folders, found.files) == (["b"], ["b!", "b0"])
    assert found.others == {bucket_files.ODD: 3}
    assert objects.entries("a/b")[:2] == (["d"], ["c"])
    assert [
        one for one in ("", "a", "a/b", "a/b/d", "é", "b", "ab", "a/b0") if objects.has_folder(one)
    ] == ["", "a", "a/b", "a/b/d", "é"]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 20, 40])
def test_blocks_are_read_as_from_a_file(monkeypatch, size):
    monkeypatch.setattr(bucket_files, "_BLOCK", 8)
    whole, asked = bytes(range(size)), []

    def ask(start, stop):
        asked.append(start)
        return lambda: whole[start:stop]

    for offset in range(0, 50, 3):
        for length in (0, 1, 5, 8, 19):
            blocks = bucket_files._Blocks(ask)
            assert blocks.read(length, offset) == whole[offset : offset + length]
    for end in range(1, 60):
        blocks = bucket_files._Blocks(ask)
        assert blocks.reaches(end) == (end <= size)
        if end > size:
            assert blocks.size == size
    asked.clear()
    blocks = bucket_files._Blocks(ask)
    for offset in range(0, size, 2):
        blocks.read(4, offset)
    assert len(asked) == len(set(asked)) <= size // 8 + 3
