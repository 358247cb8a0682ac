r"""A text tower on ViT-22B (LiT): batch 32,768 for a million steps.

  distill train_pair --config=pretrain/lit_22b --workdir=runs/lit_22b \
      --config.teacher.workdir=runs/vit_22b --config.data.source=wds:DIR \
      --config.data.captions.path=tokenizer.json

arXiv 2302.05442 trains a text tower of ViT-g's size, batch and steps as here. Head width is the
image embedding's, texts have 16 tokens as in arXiv 2111.07991, whose loss is the softmax; learning
rate and decay are configs/pretrain/lit_coco.py's, at a hundredth of the decay for 200 times its
steps, and rsqrt is configs/pretrain/vit_22b.py's. Its data is not public: bring your own. This run
has not been measured here.
"""

import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="pair",
                text=dict(
                    width=1664,
                    depth=48,
                    mlp_dim=8192,
                    heads=16,
                    vocab=32_000,
                    length=16,
                    embed_dim=6144,
                    remat="none",  # as docs/scale.md plans it
                    dtype="bfloat16",
                ),
            ),
            teacher=dict(
                workdir="runs/vit_22b",
                dtype="bfloat16",
                model=dict(
                    family="vit_22b",
                    variant="22B/14",
                    image_size=224,
                    num_classes=29_593,
                    dtype="bfloat16",
                    # As configs/pretrain/vit_g14.py has it.
                    attention="plain",
                ),
            ),
            loss=dict(kind="softmax"),
            data=dict(
                source="wds:data/pairs",
                validation_split=None,
                test_split=None,
                captions=dict(path="tokenizer.json", family="siglip", length=16),
            ),
            optimizer=dict(name="adafactor", learning_rate=1e-3, weight_decay=(("kernel$", 1e-4),)),
            schedule=dict(
                kind="rsqrt", warmup_steps=10_000, timescale_steps=10_000, cooldown_steps=50_000
            ),
            train=dict(
                batch_size=32_768,
                total_steps=1_000_000,
                log_every=50,
                eval_every=5000,
                checkpoint_every=5000,
            ),
            # As configs/pretrain/vit_22b.py has it; 64 divides the text tower's 1664, too.
            mesh=dict(data=-1, fsdp=64),
        )
    )
