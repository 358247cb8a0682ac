r"""Error against compute on scikit-learn's handwritten digits: four sizes, six durations.

  python pipelines/scaling_study.py --config=configs/scaling/digits.py --workdir=runs/scaling

Widths from 8 to 64, 2,000 to 100,000 parameters, for 100 to 3,200 steps. The loss is softmax
cross-entropy without mixup, so that cross-entropy on held-out images is what was trained: with 600
of them it is a finer measure than their error rate.
"""

import ml_collections


def get_config():
    def size(width, heads):
        # Wide models diverge at what narrow ones learn fastest with.
        lr = 1e-2 * (8 / width) ** 0.5
        shape = (("model.width", width), ("model.mlp_dim", 4 * width), ("model.heads", heads))
        return f"{width}x2", (*shape, ("optimizer.learning_rate", lr))

    return ml_collections.ConfigDict(
        dict(
            base=dict(
                model=dict(
                    family="vit",
                    variant="mu/2",
                    depth=2,
                    head="gap",
                    image_size=8,
                    channels=1,
                    num_classes=10,
                    unroll=True,
                ),
                loss=dict(kind="softmax"),
                data=dict(
                    source="digits",
                    threads=1,  # for images this small Python is the cost
                    view=dict(crop_area=(0.6, 1.0), flip=False, eval_crop=1.0),
                ),
                optimizer=dict(name="adafactor", weight_decay=(("kernel$", 1e-4),)),
                schedule=dict(
                    kind="rsqrt", warmup_steps=20, timescale_steps=200, cooldown_percent=25
                ),
                train=dict(
                    batch_size=64,
                    total_steps=3200,
                    log_every=200,
                    eval_every=800,
                    checkpoint_every=600,
                ),
            ),
            sizes=(size(8, 2), size(16, 2), size(32, 4), size(64, 4)),
            durations=(100, 200, 400, 800, 1600, 3200),
        )
    )
