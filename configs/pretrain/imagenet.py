"""ViT-B/16 on ImageNet-1k for 90 epochs, with the recipe of "Scaling Vision Transformers".

  python pipelines/pretrain.py --config=configs/pretrain/imagenet.py --workdir=runs/b16

The images come from TensorFlow Datasets, prepared once as array_record, for which
pip install -e '.[tfds]' brings TensorFlow:

  import tensorflow_datasets as tfds
  tfds.builder("imagenet2012", file_format="array_record").download_and_prepare()

28,000 updates of 4096 images. arXiv 2106.04560, §3: sigmoid cross-entropy, the Adafactor variant,
head and body weight decay, warmup 10k, rsqrt, cooldown 10k (its setting for runs of 20k to 60k
steps). This run has not been measured here.
"""

import ml_collections

from configs.pretrain.vit_g14 import optimizer


def get_config():
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit",
                variant="B/16",
                image_size=224,
                num_classes=1000,
                head="map",
                classifier_bias=-6.9,
                dtype="bfloat16",
            ),
            loss=dict(kind="sigmoid"),
            data=dict(
                source="tfds:imagenet2012",
                train_split="train[:99%]",
                validation_split="train[99%:]",
                test_split="validation",
            ),
            optimizer=optimizer(learning_rate=8e-4),
            schedule=dict(
                kind="rsqrt", warmup_steps=10_000, timescale_steps=10_000, cooldown_steps=10_000
            ),
            train=dict(
                batch_size=4096,
                total_epochs=90,
                log_every=50,
                eval_every=1000,
                checkpoint_every=1000,
            ),
        )
    )
