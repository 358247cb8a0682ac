"""Exports in their own runtimes, in this process: from views to what the file returns."""

import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import RunFailed, UserError
from distill.export import onnx as onnx_files
from distill.export import stablehlo as stablehlo_files

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def _saved_model(path: Path) -> Run:
    tf = _imported("tensorflow", "-e '.[export]'")
    # TensorFlow forgets a function whose model nobody holds.
    model = tf.saved_model.load(str(path))
    serve = model.signatures["serving_default"]

    def run(images, model=model):
        del model
        return {name: x.numpy() for name, x in serve(images=tf.constant(images)).items()}

    return run


def _stablehlo(path: Path) -> Run:
    from jax import export

    file = path / stablehlo_files.FILE
    # It says that it returns one array.
    call: Callable[..., Any] = export.deserialize(bytearray(file.read_bytes())).call
    return lambda images: {name: np.asarray(value) for name, value in call(images).items()}


def _tflite(path: Path) -> Run:
    tf = _imported("tensorflow", "-e '.[export]'")
    file = path
    if path.is_dir():
        files = sorted(path.glob("*.tflite"))
        file = next((one for one in files if one.name == "model.tflite"), files[0])
    with warnings.catch_warnings():
        # TensorFlow announces that it will hand its interpreter over to another package.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_path=str(file))
    serve = interpreter.get_signature_runner("serving_default")

    # It runs as long as its interpreter is there.
    def run(images, interpreter=interpreter):
        del interpreter
        return serve(images=images)

    return run


def _onnx(path: Path) -> Run:
    runtime = _imported("onnxruntime", "-c constraints.txt -e '.[onnx]'")
    session = runtime.InferenceSession(path / onnx_files.FILE, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


_RUNTIMES: Mapping[str, Callable[[Path], Run]] = {
    "saved_model": _saved_model,
    "stablehlo": _stablehlo,
    "tflite": _tflite,
    "tflite_float32": _tflite,
    "tflite_int8": _tflite,
    "onnx": _onnx,
}


def open_runtime(form: str, path: Path) -> Run:
    """What runs an export.

    Args:
      form: in which it is; one of `distill.export.versions.FORMATS` that hold a function.
      path: the version's directory, or of TFLite a file in it.

    Raises:
      UserError: if the runtime is not installed, or there is none.
      RunFailed: if it does not take the file.
    """
    if form not in _RUNTIMES:
        raise UserError(f"{path} is an export of the format {form}, which is not run here")
    try:
        return _RUNTIMES[form](path)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise RunFailed(f"the export in {path} cannot be loaded: {error}") from error


def _imported(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"this export runs in {name}, which is not installed: pip install {extra}"
        ) from error


def onnx_class_names(path: Path) -> tuple[str, ...]:
    """The names of the classes, which the file itself holds; empty if it does not."""
    runtime = _imported("onnxruntime", "-c constraints.txt -e '.[onnx]'")
    session = runtime.InferenceSession(path / onnx_files.FILE, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map.get("class_names")
    return tuple(json.loads(found)) if found else ()
