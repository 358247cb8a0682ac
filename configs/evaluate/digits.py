r"""Corruptions, calibration and accuracy by digit, of models of scikit-learn's digits.

  distill compare runs/demo/teacher runs/demo/student runs/demo/labels_only \
      --config=evaluate/digits --output=runs/compared
  python pipelines/evaluate.py --workdir=runs/demo/student --config=configs/evaluate/digits.py

The scans are 8 pixels wide; lengths of corruptions are those of an image of 32.
"""

import ml_collections


def get_config():
    images = dict(source="digits", split="test")
    return ml_collections.ConfigDict(
        dict(
            evals=dict(
                clean=dict(kind="split", **images),
                robustness=dict(kind="corruptions", side=32, **images),
                calibration=dict(kind="calibration", **images),
                subgroups=dict(kind="subgroups", **images),
            )
        )
    )
