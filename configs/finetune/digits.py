r"""The digits teacher at double resolution: 16×16 pixels, 64 patches instead of 16.

  python pipelines/finetune.py --config=configs/finetune/digits.py --workdir=runs/finetuned \
      --config.start.workdir=runs/teacher

About two minutes on two CPU cores. The classifier is kept, so that the accuracy before the first
step, which is logged as step 0, shows what the interpolated position embedding is worth.
"""

import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        dict(
            start=dict(workdir="runs/teacher", classifier="keep"),
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
