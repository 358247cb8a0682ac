"""What a process with four devices finds when it evaluates features on two meshes, as JSON."""

import json
from types import SimpleNamespace

import jax
import numpy as np

from distill.data import DataConfig, Subset, open_source
from distill.evaluate.features import FeatureExtractor, split_loader
from distill.evaluate.transfer import TransferConfig, TransferTask
from distill.parallel import MeshConfig, make_mesh
from distill.train.state import init_params
from students import vit

SHAPE = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=8, channels=1, num_classes=10)
TASK = TransferConfig(shots=(2,), seeds=(0,), neighbours=(3,), probe=True)
DATA = DataConfig(threads=1)
# Neither is divisible by the batch, nor by the devices.
TRAIN, TEST, BATCH = 203, 101, 16


def some(split, count):
    return Subset(open_source("digits", split, channels=1), np.arange(count))


def evaluate(mesh_config, devices, drawn=None):
    """Features of the test images, scores, and the parameters, which are drawn if not given."""
    mesh = make_mesh(mesh_config, devices)
    network = vit.build(vit.configure("mu/4", **SHAPE)).placed(mesh)
    if drawn is None:
        params = init_params(network, seed=0)
    else:
        params = jax.device_put(drawn, network.shardings)
    extract = FeatureExtractor(network)

    def embed(source):
        return extract(params, split_loader(source, DATA, mesh, size=8, batch_size=BATCH))

    task = TransferTask(TASK, some("train", TRAIN), some("test", TEST))
    scores = {"/".join(name): value for name, value in task.evaluate(embed, mesh).items()}
    return SimpleNamespace(features=embed(task.test), scores=scores, params=params)


def main():
    one = evaluate(MeshConfig(), jax.devices()[:1])
    drawn = jax.device_get(one.params)
    four = evaluate(MeshConfig(data=2, fsdp=2), jax.devices(), drawn)
    cut = [leaf for leaf in jax.tree.leaves(four.params) if not leaf.sharding.is_fully_replicated]
    difference = np.abs(one.features.embedding - four.features.embedding).max()
    return {
        "devices": len(jax.devices()),
        "cut": len(cut),
        "images": [len(one.features.label), len(four.features.label)],
        "same_labels": one.features.label.tolist() == four.features.label.tolist(),
        "difference": float(difference),
        "spread": float(np.ptp(one.features.embedding, axis=0).min()),
        "one": one.scores,
        "four": four.scores,
    }


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps(main()))
