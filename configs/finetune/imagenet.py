r"""ImageNet-1k at a higher resolution: 384 pixels, or 518 for ViT-g and ViT-G (patch 14).

  python pipelines/finetune.py --config=configs/finetune/imagenet.py --workdir=runs/b16_384 \
      --config.start.workdir=runs/b16
  python pipelines/finetune.py --config=configs/finetune/imagenet.py:518 --workdir=runs/g14_518 \
      --config.start.workdir=runs/vit_g14

arXiv 2106.04560, §3 and appendix: SGD with momentum 0.9, batch 512, 20,000 updates, clipping at 1,
no weight decay, cosine after 500 steps of warmup; learning rate 0.03, or 0.01, whichever is better
on validation images. The new classifier has the data's classes. ViT-G's weights are averaged there;
the decay of 0.9999 is this project's choice. These runs have not been
measured here.
"""

import ml_collections


def get_config(image_size="384"):
    if image_size not in ("384", "518"):
        raise ValueError(f"image size {image_size!r} is neither 384 nor 518")
    return ml_collections.ConfigDict(
        dict(
            start=dict(workdir="runs/pretrained", classifier="new"),
            model=dict(image_size=int(image_size)),
            loss=dict(kind="softmax"),
            data=dict(
                source="tfds:imagenet2012",
                train_split="train[:99%]",
                validation_split="train[99%:]",
                test_split="validation",
            ),
            optimizer=dict(
                name="sgd",
                learning_rate=0.03,
                clip_norm=1.0,
                average_decay=0.9999 if image_size == "518" else None,
            ),
            schedule=dict(kind="cosine", warmup_steps=500),
            train=dict(batch_size=512, total_steps=20_000),
        )
    )
