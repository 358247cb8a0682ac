"""Small photographs with the class and the depth of each pixel, and a model to see them."""

import jax
import numpy as np
from PIL import Image

from distill.data import DataConfig
from distill.evaluation_view import EvaluationView
from distill.nn import VisionNetwork, VisionTransformer, ViTConfig
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject

CLASSES = ("sky", "grass", "brick")
COLOURS = np.array([[90, 140, 230], [60, 160, 70], [170, 80, 60]])
DEPTHS = np.array([4.0, 1.5, 2.5], np.float32)
SIZES = ((16, 16), (20, 16), (16, 27), (33, 24))
MODEL = dict(
    width=16, depth=2, mlp_dim=32, heads=2, patch_size=4, image_size=16, num_classes=2, head="cls"
)


def scene(seed, size):
    """An image of noisy areas of three colours, and the class of each pixel; 255 at the border."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    top, left = rng.integers(3, size[0] - 4), rng.integers(3, size[1] - 4)
    label[top:] = 1
    label[top - 2 :, left : left + 6] = 2
    pixels = COLOURS[label] + rng.normal(0, 12, (*size, 3))
    label[0] = 255
    return np.clip(pixels, 0, 255).astype(np.uint8), label


def write(root, splits=(("train", 10), ("val", 4)), depths=False):
    """Images with masks, or with depths, as `masks:ROOT` and `depth:ROOT` read them."""
    kind = "depth" if depths else "masks"
    for number, (split, count) in enumerate(splits):
        for index in range(count):
            pixels, label = scene((number, index), SIZES[index % len(SIZES)])
            image = root / "images" / split / f"{index:02}.png"
            other = root / kind / split / f"{index:02}"
            image.parent.mkdir(parents=True, exist_ok=True)
            other.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            if depths:
                depth = np.where(label == 255, np.nan, DEPTHS[label % 3])
                np.save(other.with_suffix(".npy"), depth.astype(np.float32))
            else:
                Image.fromarray(label).save(other.with_suffix(".png"))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def drawn(network, seed=0):
    """Parameters far from where they begin, so that no layer is without effect."""
    params = network.init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return tree.unflatten([one + 0.1 * jax.random.normal(key, one.shape) for key, one in pairs])


def subject(batch_size=8, devices=None, **choices):
    """A model to evaluate, which comes with no data."""
    network = VisionNetwork(ViTConfig(**(MODEL | choices)), VisionTransformer)
    return Subject(
        place="here",
        network=network.placed(make_mesh(MeshConfig(), devices)),
        class_names=(),
        view=EvaluationView(),
        data=DataConfig(threads=2),
        split=None,
        metrics=lambda images: None,
        view_size=16,
        batch_size=batch_size,
    )
