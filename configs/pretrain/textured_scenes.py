"""A small ViT on textured scenes, trained on which digits are in them.

  python pipelines/pretrain.py --config=configs/pretrain/textured_scenes.py --workdir=runs/teacher

A minute and a half on two CPU cores (170 CPU-seconds). No scene is seen twice, so that views can be
of all of it.
"""

import ml_collections


def data():
    return dict(
        source="textured_scenes?images=100000",
        eval_source="textured_scenes",
        test_split=None,
        threads=2,
        view=dict(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, eval_crop=1.0),
    )


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit",
                variant="mu/4",
                width=96,
                depth=2,
                mlp_dim=384,
                heads=4,
                head="map",
                image_size=32,
                channels=3,
                num_classes=10,
                classifier_bias=-1.5,  # a digit is in a fifth of the scenes
                unroll=True,
            ),
            loss=dict(kind="sigmoid"),
            data=data(),
            optimizer=dict(
                name="adam", learning_rate=3e-3, weight_decay=(("kernel$", 1e-4),), b2=0.98
            ),
            schedule=dict(kind="cosine", warmup_steps=100),
            evals=dict(val=None),  # its figures are of one label an image
            train=dict(
                batch_size=32,
                total_steps=1250,
                log_every=50,
                eval_every=1250,
                checkpoint_every=1250,
            ),
        )
    )
