"""Small models on scenes of digits, which most claims train in some way or other."""

import copy
from collections.abc import Mapping
from typing import Any

from benchmarks.claims.runs import Run

SCENES = "scenes?digits=1&difficulty=2"
"""Of 16×16 pixels: ten classes, of which no model here is right on all."""

UPSTREAM, DOWNSTREAM = tuple("0123456"), tuple("789")
"""What is trained on, and what frozen features are measured on."""

TRAIN_IMAGES = 20_000


def pretraining(overrides: Mapping[str, Any], *, seed: int, changed: str = "") -> Run:
    """The pre-training of a small ViT on labelled scenes.

    Args:
      overrides: of `tree`, by dotted key.
      seed: of the run.
      changed: as of a `Run`.
    """
    return Run(pipeline="pretrain", config=tree(overrides, seed=seed), changed=changed)


def tree(overrides: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    """A config as a file has it: width 32, depth 3, 16 tokens; 1,200 steps of 64 images, Adam.

    Args:
      overrides: by dotted key.
      seed: of the run.
    """
    found = copy.deepcopy(_BASE)
    found["seed"] = seed
    for key, value in overrides.items():
        *sections, last = key.split(".")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return _complete(found)


def transferred(images: int = TRAIN_IMAGES) -> dict[str, Any]:
    """Overrides by which a model trains on `UPSTREAM` and is judged by `DOWNSTREAM` as well.

    Args:
      images: to train on, about.
    """
    drawn = images * 10 // len(UPSTREAM)
    return {
        "model.num_classes": len(UPSTREAM),
        "data.source": f"{SCENES}&images={drawn}",
        "data.classes": UPSTREAM,
        "transfer": {
            "classes": DOWNSTREAM,
            "shots": (10,),
            "seeds": tuple(range(10)),
            "test_split": "test",
        },
    }


def _complete(found: dict[str, Any]) -> dict[str, Any]:
    """With what follows from the length and the width, unless it is said."""
    train, model = found["train"], found["model"]
    steps = train["total_steps"]
    for key in ("log_every", "eval_every", "checkpoint_every"):
        train.setdefault(key, steps)
    model.setdefault("mlp_dim", 4 * model["width"])
    model.setdefault("heads", max(2, model["width"] // 16))
    schedule = found["schedule"]
    if "warmup_percent" not in schedule:
        schedule.setdefault("warmup_steps", max(20, steps // 20))
    return found


_BASE: dict[str, Any] = dict(
    model=dict(
        family="vit",
        variant="mu/4",
        width=32,
        depth=3,
        head="gap",
        image_size=16,
        channels=3,
        num_classes=10,
        remat="none",
    ),
    loss=dict(kind="softmax"),
    data=dict(
        source=f"{SCENES}&images={TRAIN_IMAGES}",
        eval_source=SCENES,
        threads=1,
        cache="ram",
        view=dict(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, eval_crop=1.0),
    ),
    optimizer=dict(name="adam", learning_rate=3e-3, weight_decay=(("kernel$", 1e-4),), b2=0.98),
    schedule=dict(kind="cosine"),
    train=dict(batch_size=64, total_steps=1200, keep_checkpoints=1, example_images=None),
)
