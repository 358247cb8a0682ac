r"""ViT-S/16 on a folder of images, see docs/data.md, for a few thousand images or more.

  python pipelines/pretrain.py --config=configs/pretrain/folder.py --workdir=runs/flowers \
      --config.data.source=folder:DIR --config.model.num_classes=102

The loss, views and optimiser of "Scaling Vision Transformers" (arXiv 2106.04560) with a cosine
schedule and mixup; batch, length and rates are a starting point, not a published recipe.
"""

import ml_collections

from configs.pretrain.vit_g14 import optimizer


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit", variant="S/16", image_size=224, num_classes=10, dtype="bfloat16"
            ),
            loss=dict(kind="sigmoid", mixup=0.2),
            data=dict(source="folder:data/images", workers=4),
            optimizer=optimizer(learning_rate=1e-3),
            schedule=dict(kind="cosine", warmup_steps=500),
            train=dict(
                batch_size=256,
                total_epochs=200,
                log_every=50,
                eval_every=500,
                checkpoint_every=500,
            ),
        )
    )
