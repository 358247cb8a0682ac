r"""Frozen features: few-shot regression, nearest neighbours and a linear probe, on the run's data.

  python pipelines/evaluate.py --workdir=runs/student --config=configs/evaluate/transfer.py
  python pipelines/evaluate.py --weights=weights/dinov2-base \
      --config=configs/evaluate/transfer.py:folder:/data/flowers

The argument names other data, with splits `train` and `test`.
"""

import ml_collections


def get_config(source=None):
    transfer = dict(
        kind="transfer", shots=(1, 5, 10, 25), seeds=(0, 1, 2), neighbours=(20,), probe=True
    )
    if source is not None:
        transfer |= dict(sources=(source,), train_split="train", test_split="test")
    return ml_collections.ConfigDict(dict(evals=dict(transfer=transfer)))
