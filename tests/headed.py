"""What tests of heads share: published weights to put one on, images with masks or depths."""

import functools

import dense_images
import numpy as np
from published import big_vision_arrays

from distill.config import resolve
from distill.dense_view import DenseView
from distill.nn import VisionNetwork, VisionTransformer, ViTConfig
from distill.nn.dense import HeadedNetwork
from distill.parallel import MeshConfig, make_mesh
from distill.runs.heads import HeadTrainingConfig
from distill.train.workdir import Workdir
from pipelines import train_head

SIDE = 16
"""Of windows, in pixels."""


def saved_tower(path, seed=0):
    """A small vision transformer of random parameters, as big_vision saves it."""
    arrays = big_vision_arrays("big_vision", "cls", classes=0)
    rng = np.random.default_rng(seed)
    moved = {name: one + 0.02 * rng.standard_normal(one.shape) for name, one in arrays.items()}
    np.savez(path / "tower.npz", **{name: np.float32(one) for name, one in moved.items()})
    return path / "tower.npz"


def tree(weights, root, task, **head):
    """A config as a file has it."""
    return dict(
        tower=dict(weights=of(weights)),
        head=dict(task=task, **head),
        data=dict(
            source=f"{'masks' if task == 'segmentation' else 'depth'}:{root}",
            validation_split="val",
            test_split="val",
            threads=2,
        ),
        train=dict(batch_size=4, total_steps=4, eval_every=4, checkpoint_every=2, log_every=1),
        schedule=dict(kind="cosine", warmup_steps=1),
    )


def of(weights):
    """What a config says of them."""
    return dict(path=str(weights), image_size=SIDE)


def configured(*args, overrides=None, **head):
    return resolve(HeadTrainingConfig, tree(*args, **head), overrides or {})


def made(workdir, config):
    """Runs the command's own function."""
    return train_head.run(config, Workdir(workdir), overview=False)


@functools.cache
def network(outputs=3, depth=None, **view):
    """A head on the model of `dense_images`, placed."""
    base = VisionNetwork(ViTConfig(**(dense_images.MODEL | {"num_classes": 0})), VisionTransformer)
    names = dense_images.CLASSES if depth is None else ()
    headed = HeadedNetwork.of(
        base, DenseView(**view), outputs=outputs, class_names=names, depth=depth
    )
    return headed.placed(make_mesh(MeshConfig()))
