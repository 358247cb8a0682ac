r"""A ViT-S/16 of your images' classes from the features of published weights.

  distill distill_student --config=distill/published --workdir=runs/s16 \
      --config.teacher.weights.path=weights/dinov2-base --config.data.source=folder:/data/flowers

The embedding is matched, which any teacher has, and the labels are learned beside it; the student
has as many classes as the folder. For a teacher of the same classes, `:logits` matches its logits
by function matching (arXiv 2106.05237). The student classifies by its class token, as Hugging
Face's ViT does, so that it can be exported there; --config.model.head=map would pool by attention.
This run has not been measured here.
"""

import ml_collections

LOSSES = {
    "embedding": dict(kl=0.0, embedding_cosine=1.0, labels=1.0),
    "logits": dict(kl=1.0),
}


def get_config(match="embedding"):
    if match not in LOSSES:
        raise ValueError(f"expected one of {', '.join(LOSSES)}, not {match!r}")
    return ml_collections.ConfigDict(
        dict(
            model=dict(family="vit", variant="S/16", head="cls", image_size=224),
            teacher=dict(weights=dict(path="weights")),
            matching=dict(losses=LOSSES[match], mixup=1.0),
            data=dict(source="folder:data"),
            optimizer=dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),)),
            schedule=dict(kind="cosine", warmup_percent=5.0),
            train=dict(batch_size=128, microbatches=2, total_epochs=300.0),
        )
    )
