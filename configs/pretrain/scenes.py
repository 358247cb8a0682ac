r"""A small pair on scenes of two handwritten digits and their captions.

  python pipelines/train_pair.py --config=configs/pretrain/scenes.py --workdir=runs/pair
  python pipelines/evaluate.py --workdir=runs/pair --config=configs/evaluate/scenes.py

`heldout` is of digits that no caption of the training data names together, chosen among all 200
combinations. `scenes_tokenizer.json` is what `distill train_tokenizer digit_scenes --vocab=100`
learns of the training captions. Scenes are not mirrored, which would make captions untrue, and
seen whole.
"""

from pathlib import Path

import ml_collections


def captions():
    vocabulary = Path(__file__).with_name("scenes_tokenizer.json")
    return dict(path=str(vocabulary), family="siglip2", length=10)


def view():
    return dict(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, eval_crop=1.0)


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="pair",
                image=dict(
                    family="vit",
                    variant="mu/10",
                    width=64,
                    depth=2,
                    mlp_dim=256,
                    heads=4,
                    image_size=30,
                    channels=1,
                    unroll=True,
                ),
                text=dict(
                    vocab=78,
                    length=10,
                    width=64,
                    depth=1,
                    mlp_dim=256,
                    heads=4,
                    embed_dim=64,
                    unroll=True,
                ),
            ),
            loss=dict(kind="softmax"),
            data=dict(
                source="digit_scenes",
                captions=captions(),
                test_split=None,  # configs/evaluate/scenes.py has it
                threads=1,  # for images this small Python is the cost, and threads only wait for it
                view=view(),
            ),
            optimizer=dict(
                name="adam", learning_rate=4e-3, weight_decay=(("kernel$", 3e-4),), b2=0.98
            ),
            schedule=dict(kind="cosine", warmup_steps=100),
            evals=dict(
                val=None,  # several scenes have one caption, so that none is found alone
                seen=dict(kind="zeroshot", split="validation", templates="{}"),
                heldout=dict(kind="zeroshot", split="heldout_validation", templates="{}"),
            ),
            train=dict(
                batch_size=128,
                total_steps=1000,
                log_every=100,
                eval_every=500,
                checkpoint_every=1000,
            ),
        )
    )
