"""A small ViT on textured scenes of one digit, and a smaller one for students to be measured by.

  python pipelines/pretrain.py --config=configs/pretrain/textured_scenes.py --workdir=runs/teacher
  python pipelines/pretrain.py --config=configs/pretrain/textured_scenes.py:small \
      --workdir=runs/labels_only

No scene is seen twice, so that views can be of all of it. In docs/dense.md is what its tokens say
of larger scenes.
"""

import ml_collections

TEACHER = dict(width=96, depth=4, mlp_dim=384)
SMALL = dict(width=48, depth=2, mlp_dim=192)

STEPS = 800


def model(shape):
    """A model of 16×16 pixels, 4×4 patches."""
    return dict(
        family="vit",
        variant="mu/4",
        heads=4,
        head="gap",
        image_size=16,
        channels=3,
        num_classes=10,
        unroll=True,
        **shape,
    )


def shared():
    """What students are trained by as well."""
    return dict(
        data=dict(
            source="textured_scenes?size=16&images=102400",
            eval_source="textured_scenes?size=16",
            threads=2,
            view=dict(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, eval_crop=1.0),
        ),
        schedule=dict(kind="cosine", warmup_steps=100),
        train=dict(
            batch_size=128,
            total_steps=STEPS,
            log_every=100,
            eval_every=STEPS // 2,
            checkpoint_every=STEPS,
        ),
    )


def optimizer(learning_rate):
    """Adam with decoupled decay."""
    return dict(
        name="adam", learning_rate=learning_rate, weight_decay=(("kernel$", 1e-4),), b2=0.98
    )


def get_config(size="teacher"):
    if size not in ("teacher", "small"):
        raise ValueError(f"expected teacher or small, not {size!r}")
    shape, rate = (TEACHER, 2e-3) if size == "teacher" else (SMALL, 3e-3)
    return ml_collections.ConfigDict(
        dict(model=model(shape), loss=dict(kind="softmax"), optimizer=optimizer(rate), **shared())
    )
