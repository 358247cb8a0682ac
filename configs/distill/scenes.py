r"""A student of the pair on scenes, with a fifth of its image tower, and its text tower.

  python pipelines/distill_student.py --config=configs/distill/scenes.py --workdir=runs/small_pair \
      --config.teacher.workdir=runs/pair
  python pipelines/evaluate.py --workdir=runs/small_pair --config=configs/evaluate/scenes.py

It learns the teacher's embeddings of images, from images alone, pasted into each other: no
captions, no classes.
"""

import ml_collections

from configs.pretrain.scenes import view


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="pair",
                image=dict(
                    family="vit",
                    variant="mu/10",
                    width=32,
                    depth=2,
                    mlp_dim=128,
                    heads=4,
                    head="gap",
                    image_size=30,
                    channels=1,
                    unroll=True,
                ),
            ),
            teacher=dict(workdir="runs/pair"),
            matching=dict(
                mixup=0.0,
                cutmix=1.0,  # what is pasted makes scenes that training does not have
                per_example=True,
                losses=dict(kl=0.0, embedding_cosine=1.0),
            ),
            data=dict(
                source="digit_scenes",
                test_split=None,  # configs/evaluate/scenes.py has it
                threads=1,  # for images this small Python is the cost, and threads only wait for it
                view=view(),
            ),
            optimizer=dict(
                name="adam", learning_rate=8e-3, weight_decay=(("kernel$", 1e-4),), b2=0.98
            ),
            schedule=dict(kind="cosine", warmup_steps=100),
            evals=dict(
                val=None,  # zero-shot is what it is for
                views=None,
                seen=dict(kind="zeroshot", split="validation", templates="{}"),
                heldout=dict(kind="zeroshot", split="heldout_validation", templates="{}"),
            ),
            train=dict(
                batch_size=64,
                total_steps=4000,
                log_every=100,
                eval_every=2000,
                checkpoint_every=4000,
            ),
        )
    )
