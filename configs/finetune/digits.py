r"""A digits model at double resolution: 16×16 pixels, 256 patches of one pixel instead of 64.

  python pipelines/pretrain.py --config=configs/pretrain/digits.py --workdir=runs/pixels \
      --config.model.variant=22B/1 --config.model.width=64 --config.model.mlp_dim=256
  python pipelines/finetune.py --config=configs/finetune/digits.py --workdir=runs/finetuned \
      --config.start.workdir=runs/pixels

The classifier is kept, so that the accuracy before the first step, which is logged as step 0, shows
what the interpolated position embedding is worth. Patches are single pixels because larger ones
show half as much at double resolution, and digits are too small to bear that.
"""

import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        dict(
            start=dict(workdir="runs/pixels", classifier="keep"),
            model=dict(image_size=16),
            data=dict(
                source="digits",
                threads=1,
                view=dict(crop_area=(0.6, 1.0), flip=False, eval_crop=1.0),
            ),
            optimizer=dict(name="sgd", learning_rate=0.03, clip_norm=1.0),
            schedule=dict(kind="cosine", warmup_steps=20),
            train=dict(
                batch_size=64,
                total_steps=300,
                log_every=20,
                eval_every=100,
                checkpoint_every=100,
                evaluate_first=True,
            ),
        )
    )
