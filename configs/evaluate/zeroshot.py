r"""Accuracy of a published pair whose classes are texts, on ImageNet and on sets made like it.

  python pipelines/evaluate.py --weights=weights/siglip-base --zeroshot_classes=imagenet.txt \
      --config=configs/evaluate/zeroshot.py:/data --batch_size=64
  distill compare pair=weights/siglip-base student=runs/student --zeroshot_classes=imagenet.json \
      --config=evaluate/zeroshot:/data --output=runs/compared

`imagenet.txt` has a line for each of ImageNet's 1,000 classes, in ImageNet's order, with what it is
called; `imagenet.json` is an object from WordNet number to names. The argument is the folder that
holds those of the sets, as they are published; see docs/image_text.md. A set that is not there is
taken out: --config.evals.objectnet=none. Where the names are not WordNet numbers, classes are
taken to be in ImageNet's order.
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
                    model_classes="in_order",
                    source=f"images:{root}/{folder}",
                    split="train",
                )
                for name, folder in FOLDERS.items()
            }
        )
    )
