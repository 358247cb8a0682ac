import mmap
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from tar_shards import encoded, pack

from distill.data import DataConfig, TrainLoader, cache
from distill.data.cache import Cached, cached
from distill.data.sources import CorruptImage
from distill.data.spec import ImageSpec, LabelSpec, MaskSpec, TextSpec, ValuesSpec
from distill.errors import RunFailed, UserError

COUNT = 12


class Counting:
    """Scenes of several sizes, and how often each was read."""

    class_names = ("a", "b")
    found = "scenes"

    def __init__(self, count=COUNT, name="scenes", corrupt=()):
        self.fingerprint = name
        self.spec = {
            "image": ImageSpec(3),
            "label": LabelSpec(),
            "segmentation": MaskSpec(("x", "y")),
            "depth": ValuesSpec(),
        }
        self.count, self.corrupt, self.read_of = count, corrupt, []

    def __len__(self):
        return self.count

    @property
    def labels(self):
        return np.arange(self.count, dtype=np.int32) % 2

    def read(self, index):
        self.read_of.append(index)
        if index in self.corrupt:
            raise CorruptImage("torn")
        rng = np.random.default_rng(index)
        size = 5 + index, 9 - index % 3
        return {
            "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            "label": np.int32(index % 2),
            "segmentation": rng.integers(0, 2, size, dtype=np.uint8),
            "depth": rng.random(size, np.float32),
        }

    def describe(self, index):
        return f"scene {index}"

    name = describe


def same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
        assert np.asarray(array).dtype == np.asarray(other[name]).dtype


@pytest.fixture(params=["ram", "directory"])
def place(request, tmp_path):
    return "ram" if request.param == "ram" else str(tmp_path / "cache")


def test_what_was_decoded_once_is_read_again(place):
    source = Counting()
    images = cached(source, place, None)
    for _ in range(3):
        for index in range(COUNT):
            same(images.read(index), Counting().read(index))
            assert images.spec["label"].holds(images.read(index)["label"])
    assert source.read_of == list(range(COUNT))
    assert images.found == "scenes; 12 decoded in the cache"
    assert images.read(3)["image"].flags.writeable is False


def test_workers_share_it(place):
    source = Counting()
    images = cached(source, place, None)
    elsewhere = pickle.loads(pickle.dumps(images))  # noqa: S301
    elsewhere.read(5)
    same(images.read(5), Counting().read(5))
    assert source.read_of == []
    # What grew since a process mapped it is mapped anew.
    for index in range(COUNT):
        elsewhere.read(index)
    same(images.read(COUNT - 1), Counting().read(COUNT - 1))
    assert source.read_of == []


def test_threads_share_it(place):
    images = cached(Counting(200), place, None)
    for _ in range(2):
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(images.read, list(range(200)) * 2))
    for index in range(200):
        same(found[index], Counting().read(index))
        same(found[200 + index], found[index])


def test_another_run_finds_it_and_other_data_does_not(tmp_path):
    cached(Counting(), str(tmp_path), None).read(0)
    for name, decoding, expected in (
        ("scenes", (), []),
        ("others", (), [0]),
        ("scenes", (1,), [0]),
    ):
        source = Counting(name=name)
        cached(source, str(tmp_path), None, *decoding).read(0)
        assert source.read_of == expected


@pytest.mark.parametrize("kind", ["folder", "list", "wds"])
def test_a_file_that_is_written_anew_with_its_size_is_decoded_anew(tmp_path, kind):
    def write(number):
        if kind == "wds":
            pack(tmp_path / "train-0.tar", [("a.bmp", encoded(number, "bmp"))])
            return f"wds:{tmp_path}"
        file = tmp_path / "train" / "a" / "0.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(number, "bmp"))
        (tmp_path / "train.csv").write_text(f"{file},a\n")
        return f"folder:{tmp_path}" if kind == "folder" else f"list:{tmp_path}"

    def seen(source):
        config = DataConfig(source=source, cache=str(tmp_path / ".cache"), decoder="pillow")
        images = config.open("train", channels=3)
        joined = config.open("train[:100%]+train", channels=3)
        return images.fingerprint, *(int(one.read(0)["image"][0, 0, 0]) for one in (images, joined))

    before, after = seen(write(3)), seen(write(4))
    assert before == (before[0], 3, 3) and after == (before[0], 4, 4)


def test_it_is_bounded_and_what_finds_no_room_is_decoded(place, monkeypatch):
    monkeypatch.setattr(cache, "_in_memory_usage", [])
    monkeypatch.setattr(cache, "_GIB", 1)
    source = Counting(100)
    images = cached(source, place, 20_000.0)
    for _ in range(2):
        for index in range(100):
            same(images.read(index), Counting().read(index))
    assert 100 < len(source.read_of) < 200
    if place != "ram":
        sizes = [os.stat(os.path.join(folder, name)) for folder, _, names in os.walk(place)
                 for name in names if name == "pixels"]  # fmt: skip
        assert sum(size.st_size for size in sizes) <= 20_000
        # A second set in the same directory has what the first left.
        other = cached(Counting(100, "others"), place, 21_000.0)
        for index in range(100):
            same(other.read(index), Counting().read(index))


def test_a_disk_that_is_full_ends_caching_not_the_run(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    images = cached(Counting(), place, None)
    monkeypatch.setattr(cache, "_extend", full)
    for _ in range(2):
        same(images.read(1), Counting().read(1))


def test_corrupt_images_stay_corrupt(place):
    images = cached(Counting(corrupt=(4,)), place, None)
    for _ in range(2):
        with pytest.raises(CorruptImage, match="torn"):
            images.read(4)


def files(root):
    (folder,) = (one for one in root.iterdir() if one.is_dir())
    return folder / "index", folder / "pixels"


def test_a_slot_torn_in_writing_is_not_there(tmp_path):
    cached(Counting(), str(tmp_path), None).read(2)
    index, _ = files(tmp_path)
    for byte in range(32):
        damaged = bytearray(index.read_bytes())
        damaged[2 * 32 + byte] ^= 1
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
        files(copy)[0].write_bytes(damaged)
        source = Counting()
        same(cached(source, str(copy), None).read(2), Counting().read(2))
        assert source.read_of == [2]
        shutil.rmtree(copy)


@pytest.mark.parametrize("damage", ["other bytes", "cut"])
def test_pixels_that_are_not_those_that_were_written_are_decoded_again(tmp_path, damage):
    first = cached(Counting(), str(tmp_path), None)
    for index in range(3):
        first.read(index)
    _, pixels = files(tmp_path)
    data = bytearray(pixels.read_bytes())
    if damage == "cut":
        del data[10:]
    else:
        data[10] ^= 1
    pixels.write_bytes(data)
    source = Counting()
    again = cached(source, str(tmp_path), None)
    for index in range(3):
        same(again.read(index), Counting().read(index))
    assert source.read_of == ([0] if damage == "other bytes" else [0, 1, 2])
    # Now they are there, and known to be.
    source = Counting()
    once_more = cached(source, str(tmp_path), None)
    for index in range(3):
        same(once_more.read(index), Counting().read(index))
    assert source.read_of == []


def test_an_index_of_another_size_is_made_anew(tmp_path):
    cached(Counting(), str(tmp_path), None).read(2)
    files(tmp_path)[0].write_bytes(b"1234")
    same(cached(Counting(), str(tmp_path), None).read(2), Counting().read(2))


def test_memory_is_given_back():
    def held():
        links = (os.path.join("/proc/self/fd", one) for one in os.listdir("/proc/self/fd"))
        return sum("distill pixels" in os.readlink(one) for one in links if os.path.islink(one))

    before = held()
    images = cached(Counting(), "ram", None)
    images.read(0)
    assert held() == before + 1
    del images
    assert held() == before


def test_what_cannot_be_cached_is_refused(tmp_path):
    source = Counting()
    source.spec = {**source.spec, "caption": TextSpec()}
    with pytest.raises(UserError, match="hold text \\(caption\\)"):
        cached(source, "ram", None)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cache cannot be .*file"):
        cached(Counting(), str(tmp_path / "file"), None)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(24):
        folder = tmp_path / "photos" / "train" / f"class{index % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (80 + index, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return tmp_path / "photos"


def first_batches(photos, count=6, **options):
    config = DataConfig(source=f"folder:{photos}", **options)
    source = config.open("train", channels=3)
    loader = TrainLoader(source, config, size=32, batch_size=8, seed=0, put=lambda batch: batch)
    try:
        return [next(loader) for _ in range(count)]
    finally:
        loader.close()


@pytest.mark.parametrize("decoder", ["fast", "pillow"])
def test_views_are_the_same_with_a_cache(photos, place, decoder):
    plain = first_batches(photos, decoder=decoder)
    for found in (first_batches(photos, decoder=decoder, cache=place) for _ in range(2)):
        for one, other in zip(plain, found, strict=True):
            same(one, other)


@pytest.mark.slow
def test_views_are_the_same_with_a_cache_that_workers_share(photos, place):
    plain = first_batches(photos)
    for one, other in zip(plain, first_batches(photos, cache=place, workers=2), strict=True):
        same(one, other)


@pytest.mark.parametrize("decoder", ["fast", "pillow"])
def test_shrunk_images_have_the_side_that_was_asked_for(photos, decoder):
    options = {"source": f"folder:{photos}", "decoder": decoder}
    plain = DataConfig(**options).open("train", channels=3)
    shrunk = DataConfig(shrink=90, **options).open("train", channels=3)
    assert shrunk.fingerprint != plain.fingerprint
    for index in range(len(plain)):
        height, width = plain.read(index)["image"].shape[:2]
        share = min(1, 90 / min(height, width))
        found = np.asarray(shrunk.read(index)["image"])
        assert found.shape == (round(height * share), round(width * share), 3)
        by_pillow = Image.fromarray(np.asarray(plain.read(index)["image"])).resize(
            found.shape[1::-1], Image.Resampling.BILINEAR
        )
        assert np.abs(found.astype(int) - np.asarray(by_pillow)).mean() < 3


def test_only_images_are_shrunk():
    from distill.data.transforms import Shrunk

    with pytest.raises(UserError, match="also hold for each pixel segmentation, depth"):
        Shrunk(Counting(), 4, "fast")


@pytest.mark.parametrize("wrong", [{"cache_gib": 0.0}, {"shrink": 0}])
def test_bounds_are_checked(wrong):
    with pytest.raises(ValueError, match="must be"):
        DataConfig(**wrong)


def test_reading_copies_nothing(place):
    images = cached(Counting(), place, None)
    images.read(0)
    found = images.read(0)["image"]
    base = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(getattr(base, "obj", base), mmap.mmap)
    assert isinstance(images, Cached)


@pytest.mark.parametrize("place", ["ram", "directory"])
def test_a_bound_above_what_is_free_is_refused(place, tmp_path):
    where = "ram" if place == "ram" else str(tmp_path)
    config = DataConfig(cache=where, cache_gib=2.0**20)
    with pytest.raises(UserError, match=r"cache_gib is 1\.04858e\+06, and .* has room for .* GiB"):
        config.open("train", channels=1)


@pytest.mark.parametrize("name", ["index", "pixels", "usage"])
def test_a_directory_in_a_files_place_is_refused(tmp_path, name):
    cached(Counting(), str(tmp_path), None).read(0)
    (file,) = tmp_path.rglob(name)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=f"{file} is a directory, and a file is expected"):
        cached(Counting(), str(tmp_path), None)


@pytest.mark.parametrize("name", ["pixels", "usage"])
def test_a_cache_that_is_deleted_while_it_is_used_is_named(tmp_path, name):
    source = Counting()
    images = cached(source, str(tmp_path), None)
    images.read(0)
    elsewhere = pickle.loads(pickle.dumps(images))  # noqa: S301
    (file,) = tmp_path.rglob(name)
    shutil.rmtree(tmp_path)
    with pytest.raises(RunFailed, match=f"{file}, of config.data.cache, is gone"):
        if name == "pixels":
            elsewhere.read(0)
        else:
            # Whose block has room writes without looking at it.
            images._decoded._next = images._decoded._end
            images.read(1)
    with pytest.raises(RunFailed, match="is gone"):
        pickle.loads(pickle.dumps(images))  # noqa: S301
