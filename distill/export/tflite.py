"""TFLite: float32, and with weights of 8 bits (dynamic-range quantisation)."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.errors import UserError
from distill.export import saved_model
from distill.export.model import Artefact, Exportable


def check(model: Exportable) -> None:
    """Checks that the model can be written.

    Raises:
      NotInstalled: as `saved_model.require_tensorflow`.
      UserError: for another dtype than float32.
    """
    saved_model.require_tensorflow("tflite")
    if model.dtype != "float32":
        raise UserError(f"TFLite is written in float32 and int8, not in {model.dtype}")


def write(model: Exportable, directory: Path) -> list[Artefact]:
    """Writes `model.tflite`, `model_int8.tflite` (free batches) and `class_names.txt`."""
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
        with _quiet():
            content = converter.convert()
        (directory / file).write_bytes(content)
        artefacts.append(Artefact(name, "tflite", directory / file, exact=not optimizations))
    shutil.copy(source / "assets" / "class_names.txt", directory)
    return artefacts


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the converter's C++ warns of, and nothing can be done about, off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
