"""TFLite: float32, and with weights of 8 bits (dynamic-range quantisation)."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.export import saved_model
from distill.export.model import Artefact, Exportable, converting, size_obstacle
from distill.nn import Network

# Of a SavedModel that is whole.
_LAST = "fingerprint.pb"


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      NotInstalled: as `saved_model.require_tensorflow`.
    """
    saved_model.require_tensorflow("tflite")


def float32_obstacle(network: Network, dtype: str) -> str | None:
    """What keeps a network out of float32: another dtype, and what one file cannot hold."""
    return _dtype_obstacle(dtype) or size_obstacle(network, 4)


def int8_obstacle(network: Network, dtype: str) -> str | None:
    """What keeps a network out of int8: another dtype, and what one file cannot hold."""
    return _dtype_obstacle(dtype) or size_obstacle(network, 1)


def _dtype_obstacle(dtype: str) -> str | None:
    return None if dtype == "float32" else f"it is written in float32 and int8, not in {dtype}"


def write_float32(model: Exportable, directory: Path) -> Artefact:
    """Writes `model.tflite` (free batch) and `class_names.txt`."""
    return _write(model, directory, "TFLite", "model.tflite")


def write_int8(model: Exportable, directory: Path) -> Artefact:
    """Writes `model_int8.tflite` (free batch, weights of 8 bits) and `class_names.txt`."""
    return _write(model, directory, "TFLite int8", "model_int8.tflite", quantise=True)


def _write(
    model: Exportable, directory: Path, name: str, file: str, *, quantise: bool = False
) -> Artefact:
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    source = directory.with_name("to_convert")
    # The other of a pair may have been converted from it.
    if not (source / _LAST).exists():
        # In a loop, weights would be slices, which the converter leaves in float32.
        saved_model.save(model, source, unroll=True)
    with converting(name, ConverterError), _quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantise else []
        content = converter.convert()
    directory.mkdir()
    (directory / file).write_bytes(content)
    shutil.copy(source / "assets" / saved_model.CLASSES, directory)
    return Artefact(name, "tflite", directory / file, exact=not quantise)


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
