r"""The classifier on the validation and the test split, with the accuracy of each class.

  python pipelines/evaluate.py --workdir=runs/student --config=configs/evaluate/splits.py
  python pipelines/evaluate.py --workdir=runs/student \
      --config=configs/evaluate/splits.py:folder:/data/other

The argument names other data, with splits of these names.
"""

import ml_collections


def get_config(source=None):
    splits = ("validation", "test")
    return ml_collections.ConfigDict(
        dict(
            evals={
                split: dict(kind="split", source=source, split=split, per_class=True)
                for split in splits
            }
        )
    )
