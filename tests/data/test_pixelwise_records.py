"""Data sets of TFDS whose features say something of each pixel, as TFDS itself writes them."""

import numpy as np
import pytest

from distill.data import open_source
from distill.errors import RunFailed, UserError

tfds = pytest.importorskip("tensorflow_datasets")

TRIMAP = np.array([[1, 2, 3], [3, 2, 1]], np.uint8)


def prepare(name, examples, root, monkeypatch):
    """Writes a data set with its own features, and examples made here."""
    kind = tfds.builder_cls(name)
    monkeypatch.setattr(kind, "_split_generators", lambda self, _: {"train": enumerate(examples)})
    builder = kind(data_dir=str(root), file_format="array_record")
    builder.download_and_prepare()


def pet(mask):
    return {
        "image": np.zeros((2, 3, 3), np.uint8),
        "label": 4,
        "species": 1,
        "file_name": "a.jpg",
        "segmentation_mask": mask[..., None],
        "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
    }


def test_a_trimap_is_pet_and_background_and_its_border_neither(tmp_path, monkeypatch):
    prepare("oxford_iiit_pet", [pet(TRIMAP), pet(TRIMAP + 1)], tmp_path, monkeypatch)
    opened = [
        open_source(f"{kind}:oxford_iiit_pet", "train", channels=3, data_dir=str(tmp_path))
        for kind in ("tfds_masks", "tfds")
    ]
    source, plain = opened
    assert source.spec["segmentation"].class_names == ("pet", "background")
    assert plain.spec.keys() == {"image", "label"} and plain.fingerprint != source.fingerprint
    assert source.class_names == plain.class_names and source.labels.tolist() == [4, 4]
    found = []
    for index in range(2):
        try:
            found.append(source.read(index)["segmentation"].tolist())
        except RunFailed as error:
            assert "segmentation_mask of oxford_iiit_pet train record" in str(error)
            assert "has the label 4 in row 0, column 2" in str(error)
    assert found == [[[0, 1, 255], [255, 1, 0]]]
    with pytest.raises(UserError, match="exif_orientation turns images"):
        open_source(
            "tfds_masks:oxford_iiit_pet",
            "train",
            channels=3,
            data_dir=str(tmp_path),
            exif_orientation=True,
        )


def test_half_precision_depth_becomes_metres_and_unknown(tmp_path, monkeypatch):
    depth = np.full((480, 640), 2.5, np.float16)
    depth[0, :4] = np.nan, np.inf, -np.inf, 0
    image = np.zeros((480, 640, 3), np.uint8)
    prepare("nyu_depth_v2", [{"image": image, "depth": depth}], tmp_path, monkeypatch)
    source = open_source("tfds_depth:nyu_depth_v2", "train", channels=3, data_dir=str(tmp_path))
    example = source.read(0)
    assert example["depth"].dtype == np.float32 and example["label"] == -1
    assert np.isnan(example["depth"][0, :4]).all()
    assert (example["depth"][1:] == 2.5).all() and (example["depth"][0, 4:] == 2.5).all()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tfds_masks:scene_parse150", r"instances of 100 .*ADEChallengeData2016.*masks:PATH"),
        ("tfds_masks:voc/2012:5.0.0", r"boxes, and no masks\. .*masks:PATH/VOC2012"),
        ("tfds_masks:nyu_depth_v2", r"not known; tfds_masks reads oxford_iiit_pet\. .*masks:PATH"),
        ("tfds_depth:kitti", r"not known; tfds_depth reads nyu_depth_v2\. .*depth:PATH"),
    ],
)
def test_what_has_no_masks_is_refused_with_what_to_use(name, why):
    with pytest.raises(UserError, match=why):
        open_source(name, "train", channels=3)
