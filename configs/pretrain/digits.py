"""A small ViT-22B-style teacher on scikit-learn's digits; about two minutes on two CPU cores.

python pipelines/pretrain.py --config=configs/pretrain/digits.py --workdir=runs/teacher
"""

import ml_collections


def get_config():
    lr = 3e-3
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit_22b",
                variant="22B/2",
                width=96,
                depth=4,
                mlp_dim=384,
                heads=4,
                image_size=8,
                channels=1,
                num_classes=10,
            ),
            loss=dict(kind="sigmoid", mixup=0.2),
            data=dict(
                source="digits",
                view=dict(crop_area=(0.5, 1.0), flip=False, eval_crop=1.0),
            ),
            optimizer=dict(
                name="adafactor",
                learning_rate=lr,
                weight_decay=(("classifier/kernel$", 3.0 * lr), ("kernel$", 0.03 * lr)),
            ),
            schedule=dict(kind="rsqrt", warmup_steps=50, timescale=200, cooldown_steps=200),
            train=dict(
                batch_size=128,
                total_steps=600,
                log_every=50,
                eval_every=200,
                checkpoint_every=200,
            ),
        )
    )
