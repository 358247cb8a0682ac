import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from support import run_python

from distill.data import DataConfig, TrainLoader, ViewConfig, open_source
from distill.data.sources import CorruptImage, reading, records
from distill.errors import RunFailed, UserError

tfds = pytest.importorskip("tensorflow_datasets")

COUNT = 20


def picture(number):
    """Unlike all other pictures, and of its own size."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (4 + number % 3, 5, 3), dtype=np.uint8)


def truncated_png():
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(
        data, "png"
    )
    return io.BytesIO(data.getvalue()[:80])


class DistillTestPictures(tfds.core.GeneratorBasedBuilder):
    """Registers itself with TFDS as `distill_test_pictures`."""

    VERSION = tfds.core.Version("1.0.0")
    # Part of no package, in which TFDS would look for checksums of downloads.
    code_path = None
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        }
    )

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=self.features)

    def _split_generators(self, manager):
        return {"train": self._generate_examples(), "broken": self._broken()}

    def _generate_examples(self):
        for number in range(COUNT):
            yield number, {"image": picture(number), "label": number % 3}

    def _broken(self):
        yield 0, {"image": truncated_png(), "label": 0}


class DistillTestNumbers(DistillTestPictures):
    """Holds no images."""

    features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(num_classes=3)})

    def _generate_examples(self):
        yield 0, {"label": 0}

    def _broken(self):
        yield 0, {"label": 0}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data directories by file format."""
    folders = {}
    for file_format in ("array_record", "tfrecord"):
        folders[file_format] = str(tmp_path_factory.mktemp(file_format))
        builder = DistillTestPictures(data_dir=folders[file_format], file_format=file_format)
        builder.download_and_prepare()
    DistillTestNumbers(
        data_dir=folders["array_record"], file_format="array_record"
    ).download_and_prepare()
    return folders


@pytest.fixture
def open_pictures(prepared):
    def open_split(split, channels=3, name="distill_test_pictures", stored="array_record"):
        return open_source(f"tfds:{name}", split, channels=channels, data_dir=prepared[stored])

    return open_split


def numbers(source):
    """Which pictures a source holds, in order; each must be exact and rightly labelled."""
    known = {picture(n).tobytes(): n for n in range(COUNT)}
    found = []
    for index in range(len(source)):
        image, label = source.read(index).values()
        number = known[image.tobytes()]
        assert image.dtype == np.uint8 and image.shape == picture(number).shape
        assert label == number % 3
        found.append(number)
    return found


def test_every_record_is_read_exactly(open_pictures):
    assert sorted(numbers(open_pictures("train"))) == list(range(COUNT))


def test_class_names_are_those_of_the_data_set(open_pictures):
    assert open_pictures("train").class_names == ("ant", "bee", "cat")


def test_labels_are_those_of_the_records(open_pictures, monkeypatch):
    monkeypatch.setattr(records, "_RECORDS", 6)
    source = open_pictures("train")
    assert source.labels.tolist() == [n % 3 for n in numbers(source)]
    # A record whose image is damaged has a label all the same.
    assert open_pictures("broken").labels.tolist() == [0]


def test_reading_labels_says_how_far_it_is_when_it_is_slow(open_pictures, monkeypatch, caplog):
    monkeypatch.setattr(records, "_RECORDS", 8)
    monkeypatch.setattr(records, "_PATIENCE", -1.0)
    _ = open_pictures("train").labels
    said = [record.getMessage() for record in caplog.records]
    counts = ["8 of 20", "16 of 20", "20 of 20"]
    assert said == [f"reading labels of distill_test_pictures train: {n}" for n in counts]


def test_chosen_classes_are_numbered_as_given(prepared):
    config = DataConfig(
        source="tfds:distill_test_pictures",
        data_dir=prepared["array_record"],
        classes=("cat", "ant"),
    )
    chosen = config.open("train", channels=3)
    known = {picture(n).tobytes(): n for n in range(COUNT)}
    examples = map(chosen.read, range(len(chosen)))
    found = {known[one["image"].tobytes()]: one["label"] for one in examples}
    assert found == {n: {2: 0, 0: 1}[n % 3] for n in range(COUNT) if n % 3 != 1}


def test_order_is_the_same_each_time(open_pictures):
    assert numbers(open_pictures("train")) == numbers(open_pictures("train"))


def test_slices_are_disjoint_and_complete(open_pictures):
    whole = numbers(open_pictures("train"))
    first, second = numbers(open_pictures("train[:50%]")), numbers(open_pictures("train[50%:]"))
    assert len(first) == len(second) == COUNT // 2
    assert first + second == whole


def test_absolute_slices_are_understood(open_pictures):
    assert numbers(open_pictures("train[5:8]")) == numbers(open_pictures("train"))[5:8]


def test_grey_is_converted(open_pictures):
    grey, colour = open_pictures("train", channels=1), open_pictures("train")
    for index in range(COUNT):
        image = grey.read(index)["image"]
        luma = colour.read(index)["image"] @ np.array([0.299, 0.587, 0.114])
        assert image.shape == (*luma.shape, 1)
        np.testing.assert_allclose(image[..., 0], luma, atol=1)


def test_it_says_what_there_is(open_pictures):
    assert open_pictures("train").found == "20 images in 3 classes"
    assert open_pictures("train[:1]").found == "1 image in 3 classes"


def test_fingerprints_are_of_data_set_and_split(open_pictures, prepared, tmp_path):
    splits = ("train", "broken", "train[:50%]", "train[50%:]")
    found = [open_pictures(split).fingerprint for split in splits]
    assert len(set(found)) == 4
    assert [open_pictures(split).fingerprint for split in splits] == found
    # The same data set in another place is the same data set.
    elsewhere = shutil.copytree(prepared["array_record"], tmp_path / "elsewhere")
    moved = open_source("tfds:distill_test_pictures", "train", channels=3, data_dir=str(elsewhere))
    assert moved.fingerprint == found[0]


def test_a_damaged_shard_ends_a_run_at_once(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    elsewhere = shutil.copytree(prepared["array_record"], tmp_path / "elsewhere")
    (shard,) = elsewhere.rglob("distill_test_pictures-train.array_record*")
    data = bytearray(shard.read_bytes())
    data[200:60_000] = bytes(59_800)
    shard.write_bytes(data)
    source = open_source("tfds:distill_test_pictures", "train", channels=3, data_dir=str(elsewhere))
    with pytest.raises(RunFailed, match=r"record 3: the data set's files are damaged: Corrupted"):
        source.read(3)


def test_a_record_that_cannot_be_read_is_not_a_corrupt_image(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    elsewhere = shutil.copytree(prepared["array_record"], tmp_path / "elsewhere")
    source = open_source("tfds:distill_test_pictures", "train", channels=3, data_dir=str(elsewhere))
    (shard,) = elsewhere.rglob("distill_test_pictures-train.array_record*")
    shard.unlink()
    with pytest.raises(RunFailed, match=r"train record 3 cannot be read: .*No such file"):
        source.read(3)
    with pytest.raises(RunFailed, match="cannot be read"):
        _ = source.labels


def test_records_are_told_apart(open_pictures):
    source = open_pictures("train")
    names = [source.describe(i) for i in range(COUNT)]
    assert len(set(names)) == COUNT
    assert all("distill_test_pictures" in name and "train" in name for name in names)


def test_truncated_record_is_a_corrupt_image(open_pictures):
    with pytest.raises(CorruptImage):
        open_pictures("broken").read(0)


def test_threads_read_every_record_once_an_epoch(open_pictures):
    source = open_pictures("train")
    config = DataConfig(threads=4, view=ViewConfig(flip=False))
    loader = TrainLoader(source, config, size=4, batch_size=5, seed=0, put=lambda batch: batch)
    seen = np.concatenate([next(loader)["index"] for _ in range(4)])
    loader.close()
    assert sorted(seen) == list(range(COUNT))


def test_what_the_tfds_extra_installs_suffices_to_prepare_data_sets(tmp_path):
    # The first thing download_and_prepare needs; the error of other file formats sends users there.
    builder = tfds.builder("mnist", data_dir=str(tmp_path), file_format="array_record")
    assert any("train-images" in url for url in builder.url_infos)


def test_reading_records_loads_no_tensorflow(prepared):
    code = (
        "import sys; from distill.data import open_source\n"
        "opened = open_source('tfds:distill_test_pictures', 'train', channels=3,"
        " data_dir=sys.argv[1])\n"
        "image, loaded = opened.read(4)['image'], 'tensorflow' in sys.modules\n"
        "print(len(opened), opened.labels.sum(), image.ndim, loaded)"
    )
    done = run_python("-c", code, prepared["array_record"])
    assert done.returncode == 0, done.stderr
    total = sum(number % 3 for number in range(COUNT))
    assert done.stdout.split() == [str(COUNT), str(total), "3", "False"]


def test_unknown_data_set_is_named(open_pictures):
    with pytest.raises(UserError, match="no data set 'distill_no_such_set'"):
        open_pictures("train", name="distill_no_such_set")


def test_unknown_version_is_refused(open_pictures):
    with pytest.raises(UserError, match=r"distill_test_pictures:9\.9\.9"):
        open_pictures("train", name="distill_test_pictures:9.9.9")


@pytest.mark.parametrize("split", ["dev", "train[:5000]", "train[:half]", "train["])
def test_wrong_split_is_named(open_pictures, split):
    with pytest.raises(UserError) as caught:
        open_pictures(split)
    assert repr(split) in str(caught.value)


@pytest.mark.parametrize("split", ["train[:0]", "train[20:]"])
def test_slice_without_images_says_so(open_pictures, split):
    with pytest.raises(UserError, match="holds no images"):
        open_pictures(split)


def test_other_file_formats_are_refused_with_what_to_do(open_pictures):
    with pytest.raises(UserError, match=r"stored as tfrecord.*file_format='array_record'"):
        open_pictures("train", stored="tfrecord")


def test_advice_for_other_file_formats_names_another_directory(open_pictures, prepared):
    # TFDS refuses a second file format where one is prepared.
    with pytest.raises(ValueError, match="File format is already set"):
        tfds.builder(
            "distill_test_pictures", data_dir=prepared["tfrecord"], file_format="array_record"
        )
    with pytest.raises(UserError, match=r"tfds\.builder\(.*data_dir="):
        open_pictures("train", stored="tfrecord")


def test_data_set_that_is_not_prepared_says_so(tmp_path):
    with pytest.raises(UserError) as caught:
        open_source("tfds:distill_test_pictures", "train", channels=3, data_dir=str(tmp_path))
    message = str(caught.value)
    assert "stored as" not in message  # Nothing is stored there.
    assert str(tmp_path) in message
    assert "download_and_prepare" in message


def test_data_set_without_images_is_refused(open_pictures):
    with pytest.raises(UserError, match="no feature named image"):
        open_pictures("train", name="distill_test_numbers")
