r"""Accuracy on ImageNet, with its labels and ReaL's, and on the sets that are made like it.

  python pipelines/evaluate.py --weights=weights/vit-large \
      --config=configs/evaluate/imagenet_robustness.py:/data --batch_size=64
  distill compare teacher=weights/vit-giant student=runs/student \
      --config=evaluate/imagenet_robustness:/data --output=runs/compared

The argument is the folder that holds those of the sets, as they are published; see
docs/evaluation.md. A set that is not there is taken out: --config.evals.objectnet=none.
"""

import ml_collections

FOLDERS = {
    "imagenet": "imagenet-val",
    "real": "imagenet-val",
    "imagenet_v2": "imagenetv2-matched-frequency-format-val",
    "imagenet_a": "imagenet-a",
    "imagenet_r": "imagenet-r",
    "imagenet_sketch": "sketch",
    "objectnet": "objectnet-1.0/images",
}


def get_config(root="data"):
    return ml_collections.ConfigDict(
        dict(
            evals={
                name: dict(
                    kind="label_space",
                    label_space=name,
                    source=f"images:{root}/{folder}",
                    split="train",
                )
                for name, folder in FOLDERS.items()
            }
        )
    )
