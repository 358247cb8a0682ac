r"""A student of an eighth of the teacher's parameters on textured scenes.

  python pipelines/distill_student.py --config=configs/distill/textured_scenes.py \
      --workdir=runs/student --config.teacher.workdir=runs/teacher

It matches what the teacher says of scenes and of their patches; `:logits` matches the first alone.
"""

import ml_collections

from configs.pretrain.textured_scenes import SMALL, model, optimizer, shared

LOSSES = {
    "tokens": dict(kl=1.0, tokens_cosine=3.0),
    "logits": dict(kl=1.0),
}


def get_config(match="tokens"):
    if match not in LOSSES:
        raise ValueError(f"expected one of {', '.join(LOSSES)}, not {match!r}")
    return ml_collections.ConfigDict(
        dict(
            model=model(SMALL),
            teacher=dict(workdir="runs/teacher"),
            matching=dict(mixup=0.0, losses=LOSSES[match]),
            optimizer=optimizer(3e-3),
            evals=dict(views=None),
            **shared(),
        )
    )
