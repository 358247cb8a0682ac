r"""ViT-L/16 → ViT-B/16 on ImageNet-1k by function matching, 1200 epochs.

  python pipelines/distill_student.py --config=configs/distill/imagenet.py --workdir=runs/b16 \
      --config.teacher.workdir=runs/l16

arXiv 2106.05237, §4 and appendix: batch 4096, T = 1, mixup with probability 1, Adam with a
bfloat16 first moment, weight decay 3e-4, clipping at 1, cosine with 5000 steps of warmup,
`train[:98%]`. The argument is a number of epochs, or fast, medium or long: 300, 600 or 1200, as in
FlexiViT's study of patience (arXiv 2212.08013). The paper's student is a
ResNet-50 at learning rate 0.03; 1e-3, the order at which ViTs are trained with Adam, is this
project's choice. This run has not been measured here.
"""

import ml_collections

PATIENCE = {"fast": 300.0, "medium": 600.0, "long": 1200.0}


def get_config(patience="long"):
    try:
        epochs = PATIENCE.get(patience) or float(patience)
    except ValueError as error:
        raise ValueError(f"expected {', '.join(PATIENCE)} or a number of epochs") from error
    return ml_collections.ConfigDict(
        dict(
            model=dict(
                family="vit", variant="B/16", image_size=224, num_classes=1000, dtype="bfloat16"
            ),
            teacher=dict(
                workdir="runs/l16",
                dtype="bfloat16",
                model=dict(family="vit", variant="L/16", image_size=224, num_classes=1000),
            ),
            matching=dict(temperature=1.0, mixup=1.0),
            data=dict(
                source="tfds:imagenet2012",
                train_split="train[:98%]",
                validation_split="train[98%:]",
                test_split="validation",
            ),
            optimizer=dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),)),
            schedule=dict(kind="cosine", warmup_steps=5000),
            train=dict(
                batch_size=4096,
                total_epochs=epochs,
                log_every=50,
                eval_every=2500,
                checkpoint_every=2500,
            ),
        )
    )
