"""What predictions are judged to be in batches of several sizes, on one device and on eight."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from distill.analysis.human.archive import stimuli
from distill.analysis.human.datasets import CATEGORIES
from distill.data import DataConfig, open_source
from distill.evaluate.calibration import CalibrationConfig
from distill.evaluate.corruptions import CorruptionsConfig
from distill.evaluate.fairness import FairnessConfig
from distill.evaluate.humans import HumanAlignmentConfig
from distill.evaluate.label_space import LabelSpaceEvaluation
from distill.evaluate.subgroups import SubgroupsConfig
from distill.evaluation_view import EvaluationView
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject
from distill.train.state import init_params
from students import vit

SHAPE = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=8, channels=1, num_classes=16)
# By the number of devices; a batch has to divide evenly over them. There are 160 images.
BATCHES = {1: (1, 3, 16, 160), 8: (16,)}
SOURCE, SOME = f"folder:{stimuli()}", "edge[:40]"


def evaluations(folder):
    images = open_source(SOURCE, "edge", channels=1), open_source(SOURCE, "silhouette", channels=1)
    names = [source.name(number) for source in images for number in range(len(source))]
    table, classes = folder / "t.csv", folder / "map.json"
    rows = (f"{name},{number % 2},{number % 3}" for number, name in enumerate(names))
    table.write_text("\n".join(["image,target,side", *rows]))
    classes.write_text(
        json.dumps(
            {name: [name] for name in CATEGORIES[:6]} | {name: [] for name in CATEGORIES[6:]}
        )
    )
    some = dict(source=SOURCE, split=SOME)
    groups = dict(source=SOURCE, split=SOME, target="target", group="side", table=str(table))
    return {
        "label_space": LabelSpaceEvaluation(**some, label_space=str(classes)),
        "corruptions": CorruptionsConfig(
            **some, corruptions=("gaussian_noise",), severities=(1, 4)
        ),
        "calibration": CalibrationConfig(**some),
        "fairness": FairnessConfig(**groups, positive="bear"),
        "head": FairnessConfig(**groups, train_split="silhouette[:40]"),
        "subgroups": SubgroupsConfig(**some, group="side", table=str(table)),
        "human_alignment": HumanAlignmentConfig(source=SOURCE, split="edge", resamples=20),
    }


def judged(network, params, batch_size, evals):
    subject = Subject(
        place="here",
        network=network,
        class_names=CATEGORIES,
        view=EvaluationView(crop=1.0, resize="squash"),
        data=DataConfig(threads=1),
        split=None,
        metrics=lambda images: None,
        view_size=8,
        batch_size=batch_size,
    )
    found = {}
    for name, config in evals.items():
        evaluation = config.build(name, subject)
        metrics = evaluation(params)
        found[name] = {"metrics": metrics, "counts": evaluation.about()["details"].get("counts")}
    return found


def main(folder):
    evals = evaluations(folder)
    network = vit.build(vit.configure("mu/4", **SHAPE))
    meshes = {
        count: make_mesh(MeshConfig(data=2, fsdp=-1) if count > 1 else MeshConfig(), devices)
        for count in BATCHES
        for devices in [jax.devices()[:count]]
    }
    whole = jax.device_get(init_params(network.placed(meshes[1]), seed=0))
    # An untrained classifier says the same of all images.
    kernel = whole["classifier"]["kernel"]
    whole["classifier"]["kernel"] = np.random.default_rng(0).normal(size=kernel.shape).astype("f")
    found = {}
    for count, sizes in BATCHES.items():
        placed = network.placed(meshes[count])
        params = jax.device_put(whole, placed.shardings)
        if count > 1:
            # It takes seconds to compile, and test_meshes.py holds features and probes to this.
            del evals["head"]
        for size in sizes:
            found[f"{count} × {size}"] = judged(placed, params, size, evals)
    return found


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps(main(Path(sys.argv[1]))))
