r"""A student with a quarter of the parameters of the teacher on textured scenes.

  python pipelines/distill_student.py --config=configs/distill/textured_scenes.py:tokens \
      --workdir=runs/student --config.teacher.workdir=runs/teacher

`:logits`, the default, matches what the teacher says of scenes, `:tokens` also what it says of
their patches.
"""

import ml_collections

from configs.pretrain.textured_scenes import data

LOSSES = {
    "logits": dict(kl=0.0, logits_l2=1.0),
    "tokens": dict(kl=0.0, logits_l2=1.0, tokens_cosine=10.0),
}


def get_config(match="logits"):
    if match not in LOSSES:
        raise ValueError(f"expected one of {', '.join(LOSSES)}, not {match!r}")
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit",
                variant="mu/4",
                width=48,
                depth=2,
                mlp_dim=192,
                heads=4,
                head="map",
                image_size=32,
                channels=3,
                num_classes=10,
                classifier_bias=-1.5,
                unroll=True,
            ),
            teacher=dict(workdir="runs/teacher"),
            matching=dict(mixup=0.0, losses=LOSSES[match]),
            data=data(),
            optimizer=dict(
                name="adam", learning_rate=3e-3, weight_decay=(("kernel$", 1e-4),), b2=0.98
            ),
            schedule=dict(kind="cosine", warmup_steps=100),
            evals=dict(val=None, views=None),
            train=dict(
                batch_size=32,
                total_steps=1250,
                log_every=50,
                eval_every=1250,
                checkpoint_every=1250,
            ),
        )
    )
