r"""A linear head that tells the class of each pixel, on a frozen model.

  distill train_head --config=head/segmentation --workdir=runs/ade20k \
      --config.tower.weights.path=weights/dinov2-base \
      --config.data.source=masks:ADEChallengeData2016

DINOv3's protocol (arXiv 2508.10104, appendix D.1), for any folder of images with masks. Its crops
are of 512 pixels; here they are of the model's own size, as are the windows that are predicted:
`--config.tower.weights.image_size=512` makes them the same. `--config.head.learn=ridge` finds the
head in closed form, in minutes on a CPU.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.tower = dict()
    config.head = dict(task="segmentation", learn="trained", dropout=0.1)
    config.data = dict(
        source="masks:ADEChallengeData2016",
        train_split="training",
        validation_split="validation",
        test_split=None,
        # A side between half and twice that of the crop.
        view=dict(crop_area=(0.25, 1.0), flip=True),
    )
    config.optimizer = dict(
        name="adam",
        learning_rate=1e-3,
        # torch's AdamW takes it times the learning rate.
        weight_decay=((".*", 1e-3 * 1e-3),),
        b1=0.9,
        b2=0.999,
        clip_norm=None,
    )
    config.schedule = dict(kind="cosine", warmup_steps=1500)
    config.train = dict(batch_size=16, total_steps=40_000)
    return config
