"""Figures of pixels, clips and followed objects on the devices of one process or of several."""

import json
import sys

import dense_images as data

from distill.evaluate.depth import DepthConfig
from distill.evaluate.propagation import PropagationConfig
from distill.evaluate.segmentation import SegmentationConfig
from distill.evaluate.video import VideoConfig
from distill.parallel import distributed

SPLITS = dict(train_split="train", test_split="val")


def main(masks, depths, dots, davis, *where):
    if where:
        coordinator, processes, process = where
        distributed.join(coordinator=coordinator, processes=int(processes), process=int(process))
    subject = data.subject()
    params = data.drawn(subject.network)
    found = {}
    for name, config in {
        "ridge": SegmentationConfig(source=f"masks:{masks}", **SPLITS),
        "knn": SegmentationConfig(source=f"masks:{masks}", **SPLITS, probe="neighbours"),
        "depth": DepthConfig(source=f"depth:{depths}", **SPLITS),
        "clips": VideoConfig(
            source=f"clips:{dots}", frames=8, stride=1, clips=2, steps=30, width=16, depth=1
        ),
        "objects": PropagationConfig(
            source=f"davis:{davis}", short_side=24, context=2, radius=3, neighbours=3
        ),
    }.items():
        found |= config.build(name, subject)(params)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
