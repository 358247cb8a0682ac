"""Runs a SavedModel with TensorFlow and NumPy alone; a script, which nothing imports.

  python check_saved_model.py DIR

reads DIR/inputs.npz (name: images), runs the model in DIR/model, and writes DIR/outputs.npz
(name/output: array). Prints a JSON object with the top-level modules it has loaded.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# TensorFlow's converter loads JAX where it finds it; on a server there is none.
sys.modules["jax"] = None

import numpy as np
import tensorflow as tf


def main(directory: Path) -> None:
    """Runs every input through `serving_default`."""
    serve = tf.saved_model.load(str(directory / "model")).signatures["serving_default"]
    outputs = {}
    with np.load(directory / "inputs.npz", allow_pickle=False) as inputs:
        for name, images in inputs.items():
            for output, value in serve(images=tf.constant(images)).items():
                outputs[f"{name}/{output}"] = value.numpy()
    np.savez(directory / "outputs.npz", **outputs)
    loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    print(json.dumps({"modules": sorted(loaded)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
