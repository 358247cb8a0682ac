r"""A model's answers beside those of people, on model-vs-human's 17 sets.

  python pipelines/evaluate.py --weights=weights/vit-large \
      --config=configs/evaluate/human_alignment.py:/data/model-vs-human/datasets \
      --config.evals.humans.trials=raw-data
  distill human_alignment --raw_data=raw-data --html=alignment.html

The argument is the toolbox's folder `datasets`, or a folder of some of its sets. The model has
ImageNet's 1,000 classes, or the 16 categories.
"""

import ml_collections


def get_config(datasets="datasets"):
    images = dict(source=f"images:{datasets}", split="train")
    return ml_collections.ConfigDict(
        dict(evals=dict(humans=dict(kind="human_alignment", **images)))
    )
