r"""A linear head that tells the depth of each pixel, on a frozen model.

  distill train_head --config=head/depth --workdir=runs/nyu \
      --config.tower.weights.path=weights/dinov2-base

DINOv3's protocol (arXiv 2508.10104, appendix D.2) on TensorFlow Datasets' `nyu_depth_v2`, which is
FastDepth's and not the subset that DINOv3 and AdaBins train on: figures cannot be compared across
the two. Weights of 256 bins, by the scale-invariant loss, whose first 100 steps go without its
variance. Crops and windows are of the model's own size.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.tower = dict()
    config.head = dict(task="depth", learn="trained", limits=(1e-3, 10.0), part="eigen")
    config.data = dict(
        source="tfds_depth:nyu_depth_v2",
        train_split="train",
        validation_split="validation",
        test_split=None,
        view=dict(crop_area=(0.25, 1.0), flip=True),
    )
    config.optimizer = dict(
        name="adam",
        learning_rate=3e-4,
        # torch's AdamW takes it times the learning rate.
        weight_decay=((".*", 3e-4 * 1e-4),),
        b1=0.9,
        b2=0.99,
        clip_norm=35.0,
    )
    config.schedule = dict(kind="cosine", warmup_steps=12_800)
    config.train = dict(batch_size=16, total_steps=38_400)
    return config
