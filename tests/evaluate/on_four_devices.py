"""What a process with four devices finds when it evaluates features, as JSON."""

import json

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from sklearn.linear_model import LogisticRegression

from distill.data import DataConfig, Subset, open_source
from distill.evaluate import Evaluator
from distill.evaluate.features import FeatureExtractor, split_loader
from distill.evaluate.probe import fit_probe
from distill.metrics import ConfusionMatrix, LinearCKA
from distill.parallel import MeshConfig, make_mesh
from distill.train.state import init_params
from students import vit

SHAPE = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=8, channels=1, num_classes=10)
DATA = DataConfig(threads=1)
# Divisible neither by the batch nor by the devices.
COUNT, BATCH, L2 = 203, 16, 0.01


def embed(network, params):
    source = Subset(open_source("digits", "train", channels=1), np.arange(COUNT))
    mesh = network.placement.mesh
    loader = split_loader(source, DATA, mesh, size=8, batch_size=BATCH)
    return FeatureExtractor(network)(params, loader)


def similarity(network, params):
    """Linear CKA between the network's features, cut over the mesh, and the pixels."""
    source = Subset(open_source("digits", "train", channels=1), np.arange(COUNT))
    mesh = network.placement.mesh
    cut = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))

    def per_example(params, frozen, batch):
        embedding = network.apply(params, network.prepare(batch["image"])).embedding
        embedding = jax.lax.with_sharding_constraint(embedding, cut)
        pixels = batch["image"].reshape(BATCH, -1)
        return {"cka": LinearCKA.of(embedding, pixels, batch["mask"])}

    loader = split_loader(source, DATA, mesh, size=8, batch_size=BATCH)
    return Evaluator("val", loader, per_example)(params)["val/cka"]


def confusion(network, params):
    """Which digits the network, cut over the mesh, takes for which, by its embedding."""
    source = Subset(open_source("digits", "train", channels=1), np.arange(COUNT))
    names = tuple("0123456789")

    def per_example(params, frozen, batch):
        # An untrained classifier says the same of all images.
        embedding = network.apply(params, network.prepare(batch["image"])).embedding
        predictions = embedding[:, :10].argmax(-1)
        return {"classes": ConfusionMatrix.of(predictions, batch["label"], batch["mask"], names)}

    loader = split_loader(source, DATA, network.placement.mesh, size=8, batch_size=BATCH)
    return Evaluator("val", loader, per_example)(params)


def main():
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    four = make_mesh(MeshConfig(data=2, fsdp=2))
    network = vit.build(vit.configure("mu/4", **SHAPE))
    whole = init_params(network.placed(one), seed=0)
    parts = jax.device_put(jax.device_get(whole), network.placed(four).shardings)
    expected, found = embed(network.placed(one), whole), embed(network.placed(four), parts)

    probe = fit_probe(found.embedding, found.label, 10, mesh=four, penalties=(L2,)).classifier
    reference = LogisticRegression(C=1 / (L2 * COUNT), tol=1e-8, max_iter=10_000)
    reference.fit(probe.standardisation(found.embedding), found.label)
    tensor = network.placed(make_mesh(MeshConfig(fsdp=2, tensor=2)))
    return {
        "cka": similarity(tensor, jax.device_put(jax.device_get(whole), tensor.shardings)),
        "cka_on_one": similarity(network.placed(one), whole),
        "confusion": confusion(network.placed(four), parts),
        "confusion_on_one": confusion(network.placed(one), whole),
        "devices": len(jax.devices()),
        "cut": sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(parts)),
        "images": len(found.label),
        "same_labels": found.label.tolist() == expected.label.tolist(),
        "difference": float(np.abs(found.embedding - expected.embedding).max()),
        "spread": float(np.ptp(expected.embedding, axis=0).min()),
        "probe_difference": float(np.abs(probe.kernel - reference.coef_.T).max()),
        "probe_spread": float(np.ptp(reference.coef_)),
    }


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps(main()))
