"""What is found of clips and of objects in videos, on one device and on eight."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from clips_of_dots import SIDE, write_dots
from davis_of_squares import squares, write_sequence

from distill.data import DataConfig
from distill.evaluate.propagation import PropagationConfig
from distill.evaluate.video import VideoConfig
from distill.evaluation_view import EvaluationView
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject
from students import vit

SHAPE = dict(image_size=SIDE, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0)


def main(folder):
    write_dots(folder / "dots", 9)
    write_sequence(folder / "davis", "one", *squares(5, 21, 30))
    evals = {
        "clips": VideoConfig(
            source=f"clips:{folder / 'dots'}",
            frames=SIDE,
            stride=1,
            clips=1,
            steps=60,
            learning_rate=3e-3,
            depth=1,
        ),
        "objects": PropagationConfig(
            source=f"davis:{folder / 'davis'}", short_side=22, context=2, radius=3, neighbours=3
        ),
    }
    network = vit.build(vit.configure("mu/4", **SHAPE))
    meshes = {
        count: make_mesh(MeshConfig(data=2, fsdp=-1) if count > 1 else MeshConfig(), devices)
        for count in (1, 8)
        for devices in [jax.devices()[:count]]
    }
    rng = np.random.default_rng(0)
    whole = jax.tree.map(
        lambda leaf: np.float32(0.5 * rng.standard_normal(leaf.shape)), network.abstract_params
    )
    whole["patch_embed"]["linear"]["kernel"] *= 4
    found = {}
    for count, mesh in meshes.items():
        placed = network.placed(mesh)
        params = jax.device_put(whole, placed.shardings)
        subject = Subject(
            place="here",
            network=placed,
            class_names=(),
            view=EvaluationView(crop=1.0, resize="squash"),
            data=DataConfig(threads=1),
            split=None,
            metrics=lambda images: None,
            view_size=SIDE,
            batch_size=16,
        )
        found[str(count)] = {name: one.build(name, subject)(params) for name, one in evals.items()}
    return found


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps(main(Path(sys.argv[1]))))
