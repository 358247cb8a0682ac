"""What frozen tokens say of textured scenes: classes and layers of pixels, and clips in motion.

  python pipelines/compare.py runs/teacher runs/student --config=configs/evaluate/textured_scenes.py

Scenes are of 32×32 pixels and the models of configs/pretrain/textured_scenes.py see 16×16: in
windows, but for `whole`.
"""

import ml_collections

SCENES = "textured_scenes_{}?size=32&step=2&images=600"


def get_config():
    splits = dict(train_split="train", test_split="test")
    masks = dict(
        kind="segmentation", source=SCENES.format("masks"), probe="logistic", l2=1e-3, **splits
    )
    return ml_collections.ConfigDict(
        dict(
            evals=dict(
                masks=masks,
                whole=dict(tokens=dict(seen="whole"), **masks),
                layers=dict(
                    kind="depth", source=SCENES.format("depth"), limits=(0.5, 5.0), **splits
                ),
                motion=dict(
                    kind="video",
                    source="textured_motion?clips=1200",
                    frames=8,
                    stride=1,
                    clips=1,
                    width=64,
                    depth=2,
                    steps=300,
                ),
            )
        )
    )
