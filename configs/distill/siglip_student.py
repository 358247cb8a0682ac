r"""An S/16 (or B/16) that understands a published pair's texts: its text tower is the teacher's.

  distill distill_student --config=distill/siglip_student --workdir=runs/s16 \
      --config.teacher.weights.path=weights/siglip-base --config.data.source=folder:/data/photos

Any pair of docs/image_text.md teaches, and images need no labels. The student's embedding, widened
to the teacher's by a projection where it has another width, is matched by cosine on the same crops
and mixtures (arXiv 2106.05237); the teacher's text tower, scale and bias stay as they are, so that
the student does at once what the teacher's texts say. On the way, both models name the validation
images' classes by texts; of images without labels, give --config.evals.zeroshot=none. Evaluation
views are the teacher's: SigLIP's squash an image to a square. The argument is the image tower's
variant, such as `:B/16`. This run has not been measured here.
"""

import ml_collections


def get_config(variant="S/16"):
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="pair", image=dict(family="vit", variant=variant, image_size=224, head="map")
            ),
            teacher=dict(weights=dict(path="weights")),
            matching=dict(losses=dict(kl=0.0, embedding_cosine=1.0), mixup=1.0),
            data=dict(source="folder:data"),
            evals=dict(val=dict(kind="split"), zeroshot=dict(kind="zeroshot")),
            optimizer=dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),)),
            schedule=dict(kind="cosine", warmup_percent=5.0),
            train=dict(batch_size=128, total_epochs=300.0),
        )
    )
