r"""ViT-G/14 (or g/14, or e/14) as pre-trained in "Scaling Vision Transformers".

  python pipelines/pretrain.py --config=configs/pretrain/vit_g14.py --workdir=runs/vit_g14 \
      --config.data.source=folder:DIR

arXiv 2106.04560, §3 and appendix: batch 16,384, one million steps, 29,593 classes, rsqrt with a
cooldown of 50k steps. `:g/14` and `:e/14` as argument choose another shape. The paper's data,
JFT-3B, is not public: bring your own and set config.model.num_classes to its classes.
"""

import ml_collections

KEPT = ("query", "key", "value", "middle", "hidden")


def optimizer(learning_rate):
    lr = ml_collections.FieldReference(learning_rate)
    return dict(
        name="adafactor",
        learning_rate=lr,
        weight_decay=(("^classifier/kernel$", 3.0 * lr), ("kernel$", 0.03 * lr)),
    )


def get_config(variant="G/14"):
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit_g",
                variant=variant,
                image_size=224,
                num_classes=29_593,
                classifier_bias=-10.0,
                dtype="bfloat16",
                # By the compiler's estimates splash attention gains no time at 256 tokens.
                attention="plain",
                remat="full",
                # At 64 images a chip, 32 GiB have room for the results dearest to compute again.
                # With "attended" too, XLA has too little left to gather weights meanwhile.
                remat_keep=KEPT if variant == "G/14" else (),
            ),
            loss=dict(kind="sigmoid"),
            data=dict(source="folder:data/pretraining", test_split=None),
            optimizer=optimizer(learning_rate=8e-4),
            schedule=dict(
                kind="rsqrt", warmup_steps=10_000, timescale_steps=10_000, cooldown_steps=50_000
            ),
            train=dict(
                batch_size=16_384,
                total_steps=1_000_000,
                log_every=50,
                eval_every=5000,
                checkpoint_every=5000,
                keep_every=50_000,  # to branch cooldowns off
            ),
            # 16 divides every model's width: 1664 = 16 · 104.
            mesh=dict(data=-1, fsdp=16),
        )
    )
