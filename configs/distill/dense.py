r"""A ViT-S/16 for segmentation, depth and other dense uses: patch tokens of published weights.

  distill distill_student --config=distill/dense --workdir=runs/s16_dense \
      --config.teacher.weights.path=weights/dinov2-base --config.data.source=images:/data/photos

The student has no classes, and its images need no labels. Tokens are matched by nine tenths of the
cosine's distance and a tenth of smooth L1, and the class token by the cosine's distance, as
AM-RADIO weighs them (arXiv 2312.06709, §3). `:gram` adds DINOv3's Gram anchoring, with the weight 2
that it has beside DINOv3's own losses (arXiv 2508.10104, §4.2). Images are not mixed, which is this
project's choice, as are rate and length. A teacher that sees more of its patches,
--config.teacher.weights.image_size=448, costs four times as much to ask, or more.
--config.matching.standardise=phi_s is for several teachers. This run has not been measured here.
"""

import ml_collections

TOKENS = dict(kl=0.0, embedding_cosine=1.0, tokens_cosine=0.9, tokens_smooth_l1=0.1)
LOSSES = {"tokens": TOKENS, "gram": TOKENS | dict(tokens_gram=2.0)}


def get_config(match="tokens"):
    if match not in LOSSES:
        raise ValueError(f"expected one of {', '.join(LOSSES)}, not {match!r}")
    return ml_collections.ConfigDict(
        dict(
            model=dict(family="vit", variant="S/16", head="cls", image_size=224, num_classes=0),
            teacher=dict(weights=dict(path="weights")),
            matching=dict(losses=LOSSES[match], mixup=0.0),
            data=dict(source="images:data", validation_split=None, test_split=None),
            optimizer=dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),)),
            schedule=dict(kind="cosine", warmup_percent=5.0),
            train=dict(batch_size=128, microbatches=2, total_epochs=300.0),
        )
    )
