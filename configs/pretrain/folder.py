r"""ViT-S/16 on a folder of images, see docs/data.md, for a few thousand images or more.

  distill pretrain --config=pretrain/folder --workdir=runs/flowers --config.data.source=folder:DIR

The loss, views and optimiser of "Scaling Vision Transformers" (arXiv 2106.04560) with mixup and a
constant rate between warmup and cooldown, so that a run can be branched or made longer; batch,
length and rates are a starting point, not a published recipe. The model has as many classes as the
folder. A step takes 2.9 GiB on a CPU, where config.model.dtype=float32 is faster.
"""

import ml_collections

from configs.pretrain.vit_g14 import optimizer


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(family="vit", variant="S/16", image_size=224, dtype="bfloat16"),
            loss=dict(kind="sigmoid", mixup=0.2),
            data=dict(source="folder:data/images"),
            optimizer=optimizer(learning_rate=1e-3),
            schedule=dict(kind="constant", warmup_percent=5.0, cooldown_percent=20.0),
            train=dict(batch_size=128, microbatches=2, total_epochs=200.0),
        )
    )
