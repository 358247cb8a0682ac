"""A small ViT-22B-style teacher on scikit-learn's handwritten digits.

  python pipelines/pretrain.py --config=configs/pretrain/digits.py --workdir=runs/teacher

Two to three minutes on two CPU cores. Digits are not mirrored, and crops keep most of the image.
"""

import ml_collections


def get_config():
    lr = ml_collections.FieldReference(3e-3)
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit_22b",
                variant="22B/2",
                width=128,
                depth=2,
                mlp_dim=512,
                heads=4,
                image_size=8,
                channels=1,
                num_classes=10,
                unroll=True,  # 15% faster than a scan on a CPU; slower to compile
            ),
            loss=dict(kind="sigmoid", mixup=0.5),
            data=dict(
                source="digits",
                threads=1,  # for images this small Python is the cost, and threads only wait for it
                view=dict(crop_area=(0.6, 1.0), flip=False, eval_crop=1.0),
            ),
            optimizer=dict(
                name="adafactor",
                learning_rate=lr,
                weight_decay=(("classifier/kernel$", 3.0 * lr), ("kernel$", 0.03 * lr)),
            ),
            schedule=dict(
                kind="rsqrt", warmup_steps=100, timescale_steps=1600, cooldown_steps=1600
            ),
            train=dict(
                batch_size=32,
                total_steps=4000,
                log_every=100,
                eval_every=400,
                checkpoint_every=800,
            ),
        )
    )
