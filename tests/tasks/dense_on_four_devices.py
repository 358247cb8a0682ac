"""Prints the loss of a head and its slope, of one batch, on one and on four devices; a script."""

import json
import sys

sys.path.insert(0, "tests")

import dense_images
import jax
import numpy as np
from headed import DenseView, HeadedNetwork, VisionNetwork, VisionTransformer, ViTConfig

from distill.parallel import MeshConfig, make_mesh, put_batch
from distill.tasks.dense import Dense


def found(devices):
    base = VisionNetwork(ViTConfig(**(dense_images.MODEL | {"num_classes": 0})), VisionTransformer)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    network = HeadedNetwork.of(
        base, DenseView(), outputs=3, class_names=dense_images.CLASSES
    ).placed(mesh)
    task = Dense(network, dropout=0.3)
    pairs = [dense_images.scene((9, n), (16, 16)) for n in range(8)]
    pixels, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    batch = put_batch(mesh, {"image": pixels, "segmentation": labels}, size=8)
    params = dense_images.drawn(network)

    @jax.jit
    def step(params, batch):
        ready = task.prepare(params["tower"], batch | {"step": 0}, jax.random.key(1))
        return jax.value_and_grad(task.loss, has_aux=True)(params["head"], ready)

    (loss, _), slope = step(params, batch)
    return [float(loss), *np.asarray(slope["kernel"]).ravel().tolist()]


print(json.dumps([found(1), found(4)]))
