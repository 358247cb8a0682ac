"""Data sets of TFDS that have no feature `label`: what else they say of images is read."""

import io

import numpy as np
import pytest
from faces import PARTITIONS, faces, write_records
from PIL import Image

from distill.analysis.label_spaces.data_files import imagenet_wnids
from distill.analysis.label_spaces.imagenet import real_labels
from distill.analysis.label_spaces.scoring import LabelSpaceConfig
from distill.analysis.predictions import Predictions
from distill.data import DataConfig, Subset, open_source
from distill.data.sources import attributes_of
from distill.errors import UserError
from distill.evaluate.predicted import known_of

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    write_records(path)
    DistillTestReal(data_dir=str(path), file_format="array_record").download_and_prepare()
    return str(path)


@pytest.fixture
def opened(data_dir):
    def open_split(split, name="distill_test_faces"):
        return open_source(f"tfds:{name}", split, channels=3, data_dir=data_dir)

    return open_split


class DistillTestReal(tfds.core.GeneratorBasedBuilder):
    """Registers itself with TFDS as `distill_test_real`, of the layout of `imagenet2012_real`."""

    VERSION = tfds.core.Version("1.0.0")
    # Part of no package, in which TFDS would look for checksums of downloads.
    code_path = None

    def _info(self):
        classes = tfds.features.ClassLabel(num_classes=1000)
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "original_label": classes,
                "real_label": tfds.features.Sequence(classes),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for number, labels in enumerate(real_labels()[:12]):
            data = io.BytesIO()
            Image.new("RGB", (4, 4)).save(data, "jpeg")
            yield (
                number,
                {
                    "image": io.BytesIO(data.getvalue()),
                    "original_label": labels[0] if labels else 0,
                    "real_label": labels,
                    "file_name": f"ILSVRC2012_val_{number + 1:08d}.JPEG",
                },
            )


def test_images_have_no_labels_and_are_read_exactly(opened):
    source = opened("test")
    known = {face.pixels.tobytes(): face for face in faces()}
    assert source.class_names == () and source.labels.tolist() == [-1] * 60
    assert source.found == "60 images without labels"
    for index in range(len(source)):
        example = source.read(index)
        assert example["image"].tobytes() in known and example["label"] == -1


def test_attributes_are_single_values_of_features_and_of_those_in_them(opened):
    source = opened("validation")
    known = {face.pixels.tobytes(): n for n, face in enumerate(faces())}
    for index in range(len(source)):
        number = known[source.read(index)["image"].tobytes()]
        face = faces()[number]
        assert source.attributes(index) == {
            "landmarks/lefteye_x": number,
            "attributes/Male": face.male,
            "attributes/Smiling": face.smiling,
            "identity": f"nº {number}",
            "look": "" if number % 2 else "here",
        }


def test_some_images_of_a_source_keep_their_attributes(opened):
    source = opened("train")
    some = Subset(source, np.array([5, 2]))
    assert [attributes_of(some, n) for n in (0, 1)] == [source.attributes(n) for n in (5, 2)]
    columns = known_of(some, np.array([0, 1]))
    assert columns["attributes/Male"].dtype == bool
    assert columns["name"].tolist() == ["train/5", "train/2"]
    assert known_of(open_source("digits", "test", channels=1), np.array([0])).keys() == {"name"}


def test_each_split_has_its_own_fingerprint(opened):
    assert len({opened(split).fingerprint for split in PARTITIONS}) == 3


def test_what_needs_labels_says_that_there_are_none(data_dir):
    config = DataConfig(source="tfds:distill_test_faces", data_dir=data_dir)
    with pytest.raises(UserError, match="has no labels to evaluate against"):
        config.open_evaluation("test", channels=3)
    unlabelled = DataConfig(
        source="tfds:distill_test_faces",
        data_dir=data_dir,
        validation_split=None,
        test_split=None,
    )
    with pytest.raises(UserError, match="learns from labels, but the training images have none"):
        unlabelled.open_splits(channels=3).check_all_labelled("pre-training")


def test_real_goes_by_the_names_that_records_say(opened):
    source = opened("validation", "distill_test_real")
    names = known_of(source, np.arange(len(source)))
    assert names.keys() == {"name", "original_label"}
    places = [int(name[-13:-5]) - 1 for name in names["name"]]
    assert sorted(places) == list(range(12)) != places
    scores = np.zeros((12, 1000), np.float32)
    for row, place in enumerate(places):
        scores[row, real_labels()[place][:1]] = 1
    predictions = Predictions(
        scores=scores,
        class_names=imagenet_wnids(),
        labels=np.full(12, -1),
        names=names["name"],
    )
    found = LabelSpaceConfig(label_space="real").score(predictions).as_json()
    counted = sum(bool(labels) for labels in real_labels()[:12])
    assert (found["correct"], found["images"]) == (counted, counted)
