r"""A small ViT for flowers, pets, food or scenes by function matching, as patiently as you like.

  python pipelines/distill_student.py --config=configs/distill/downstream.py:flowers/medium \
      --workdir=runs/flowers --config.teacher.workdir=runs/flowers_teacher

The argument is one of flowers, pets, food, sun, and one of fast, medium, long. Epochs, temperature,
learning rate and weight decay are those of arXiv 2106.05237, appendix: batch 512, crops of 128
pixels, 1500 steps of warmup, mixup with probability 1.
The paper's student is a ResNet-50 and its teacher a BiT-ResNet; here a ViT-S/16 learns from a ViT
fine-tuned on the same data. The splits of pets and food are this project's choice: their data sets
have no validation split. These runs have not been measured here.
"""

import ml_collections

SPEEDS = ("fast", "medium", "long")
# TFDS name; train, validation and test splits; classes.
DATA = {
    "flowers": ("oxford_flowers102", ("train", "validation", "test"), 102),
    "pets": ("oxford_iiit_pet", ("train[:90%]", "train[90%:]", "test"), 37),
    "food": ("food101", ("train[:90%]", "train[90%:]", "validation"), 101),
    "sun": ("sun397", ("train", "validation", "test"), 397),
}
# Epochs, temperature, learning rate and weight decay; fast, medium and long.
RECIPES = {
    "flowers": ((1e4, 10, 3e-3, 3e-4), (1e5, 1, 1e-3, 1e-4), (1e6, 1, 3e-4, 1e-5)),
    "pets": ((1e3, 5, 0.01, 1e-3), (3e3, 10, 3e-3, 3e-4), (3e4, 2, 3e-3, 1e-5)),
    "food": ((100, 10, 0.01, 1e-3), (1e3, 10, 1e-3, 3e-4), (3e3, 5, 0.01, 1e-4)),
    "sun": ((100, 10, 0.01, 1e-3), (1e3, 10, 1e-3, 1e-4), (3e3, 10, 0.01, 3e-5)),
}


def get_config(which="flowers/fast"):
    name, _, speed = which.partition("/")
    if name not in DATA or speed not in SPEEDS:
        raise ValueError(f"expected one of {', '.join(DATA)}, a / and one of {', '.join(SPEEDS)}")
    source, (train, validation, test), classes = DATA[name]
    epochs, temperature, rate, decay = RECIPES[name][SPEEDS.index(speed)]
    model = dict(family="vit", image_size=128, num_classes=classes, dtype="bfloat16")
    return ml_collections.ConfigDict(
        dict(
            model=dict(model, variant="S/16"),
            teacher=dict(workdir=f"runs/{name}_teacher", dtype="bfloat16"),
            matching=dict(temperature=float(temperature), mixup=1.0),
            data=dict(
                source=f"tfds:{source}",
                train_split=train,
                validation_split=validation,
                test_split=test,
            ),
            optimizer=dict(name="adam", learning_rate=rate, weight_decay=(("kernel$", decay),)),
            schedule=dict(kind="cosine", warmup_steps=1500),
            train=dict(
                batch_size=512,
                total_epochs=float(epochs),
                keep_best="val/accuracy",
            ),
        )
    )
