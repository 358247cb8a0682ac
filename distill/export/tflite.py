"""TFLite: float32, and with weights of 8 bits (dynamic-range quantisation)."""

import shutil
from pathlib import Path

from distill.errors import UserError
from distill.export import saved_model
from distill.export.model import Artefact, Exportable, require


def write(model: Exportable, directory: Path) -> list[Artefact]:
    """Writes `model.tflite`, `model_int8.tflite` and `class_names.txt`; the batch is free in both.

    Raises:
      UserError: for another dtype than float32, or if TensorFlow is missing.
    """
    require("tflite", "-e '.[export]'", "tensorflow")
    if model.dtype != "float32":
        raise UserError(f"TFLite is written in float32 and int8, not in {model.dtype}")
    import tensorflow as tf

    source = directory.with_name("to_convert")
    # In a loop, weights would be slices, which the converter leaves in float32.
    saved_model.save(model, source, unroll=True)
    directory.mkdir()
    artefacts = []
    for name, file, optimizations in (
        ("TFLite", "model.tflite", []),
        ("TFLite int8", "model_int8.tflite", [tf.lite.Optimize.DEFAULT]),
    ):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
        converter.optimizations = optimizations
        (directory / file).write_bytes(converter.convert())
        artefacts.append(Artefact(name, "tflite", directory / file, exact=not optimizations))
    shutil.copy(source / "assets" / "class_names.txt", directory)
    return artefacts
