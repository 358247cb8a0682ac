"""A few images that can be told apart, laid out as CelebA is: a folder with lists, and TFDS."""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

COUNT = 240
PARTITIONS = ("train", "validation", "test")


class Face(NamedTuple):
    """One of them."""

    name: str
    pixels: np.ndarray
    smiling: bool
    male: bool
    partition: int


def faces() -> list[Face]:
    """Those who smile are mostly lighter, men a little; every second image is to train on."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(COUNT):
        smiling, male = rng.random(2) < 0.5
        light = int(np.clip(60 + 50 * smiling + 20 * male + rng.normal(0, 25), 0, 195))
        pixels = rng.integers(light, light + 60, (11, 9, 3)).astype(np.uint8)
        partition = (0, 1, 0, 2)[number % 4]
        found.append(Face(f"{number + 1:06d}.png", pixels, bool(smiling), bool(male), partition))
    return found


def write_folder(root: Path) -> Path:
    """img_align_celeba, list_attr_celeba.txt and list_eval_partition.txt."""
    (root / "img_align_celeba").mkdir(parents=True)
    attributes, partitions = [str(COUNT), "Male Smiling"], []
    for face in faces():
        Image.fromarray(face.pixels).save(root / "img_align_celeba" / face.name)
        said = ("1" if one else "-1" for one in (face.male, face.smiling))
        attributes.append(" ".join([face.name, *said]))
        partitions.append(f"{face.name} {face.partition}")
    (root / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(partitions) + "\n")
    return root


@functools.cache
def _builder() -> type:
    """Made once, as TFDS knows each of its builders by its name."""
    import tensorflow_datasets as tfds

    class DistillTestFaces(tfds.core.GeneratorBasedBuilder):
        """Registers itself with TFDS as `distill_test_faces`."""

        VERSION = tfds.core.Version("1.0.0")
        # Part of no package, in which TFDS would look for checksums of downloads.
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "landmarks": {"lefteye_x": np.int64},
                    "attributes": {"Male": np.bool_, "Smiling": np.bool_},
                    "eyes": tfds.features.Sequence(np.int64),
                    "identity": tfds.features.Text(),
                    "look": tfds.features.ClassLabel(names=["away", "here"]),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {name: self._generate_examples(place) for place, name in enumerate(PARTITIONS)}

        def _generate_examples(self, partition):
            for number, face in enumerate(faces()):
                if face.partition == partition:
                    yield (
                        number,
                        {
                            "image": face.pixels,
                            "landmarks": {"lefteye_x": number},
                            "attributes": {"Male": face.male, "Smiling": face.smiling},
                            "eyes": [1, 2],
                            "identity": f"nº {number}",
                            "look": -1 if number % 2 else 1,
                        },
                    )

    return DistillTestFaces


def write_records(data_dir: Path) -> str:
    """The layout of TFDS `celeb_a`, without a label; returns the data set's name."""
    builder = _builder()(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return "distill_test_faces"
