r"""A student with less than a fifth of the digits teacher's parameters.

  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.teacher.workdir=runs/teacher

Two to three minutes on two CPU cores. `:embedding` matches the embedding beside the logits, and
shows the student more of each image: the demo's student, with 99.8% test accuracy on average over
four seeds, where the logits alone have 99.0% over three, of a teacher with 100%.
"""

import ml_collections

MATCHES = {
    "logits": dict(crop_area=(0.6, 1.0), losses=dict(kl=1.0)),
    "embedding": dict(crop_area=(0.9, 1.0), losses=dict(kl=1.0, embedding_cosine=1.0)),
}


def get_config(match="logits"):
    if match not in MATCHES:
        raise ValueError(f"expected one of {', '.join(MATCHES)}, not {match!r}")
    matched = MATCHES[match]
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit",
                variant="mu/2",
                width=64,
                depth=2,
                mlp_dim=256,
                heads=4,
                head="gap",
                image_size=8,
                channels=1,
                num_classes=10,
                unroll=True,
            ),
            teacher=dict(workdir="runs/teacher"),
            matching=dict(temperature=2.0, mixup=1.0, losses=matched["losses"]),
            data=dict(
                source="digits",
                threads=1,  # for images this small Python is the cost, and threads only wait for it
                view=dict(crop_area=matched["crop_area"], flip=False, eval_crop=1.0),
            ),
            optimizer=dict(name="adafactor", learning_rate=3e-3, weight_decay=(("kernel$", 1e-4),)),
            schedule=dict(kind="cosine", warmup_steps=200),
            train=dict(
                batch_size=64,
                total_steps=4000,
                log_every=100,
                eval_every=400,
                checkpoint_every=1000,
            ),
        )
    )
