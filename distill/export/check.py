"""Runs an exported model in its own runtime, without this project; a script, which nothing imports.

  python check.py RUNTIME MODEL DIR

reads DIR/inputs.npz (name: images, uint8 [B, H, W, C]), runs the model on each and writes
DIR/outputs.npz (name/output: array). Prints a JSON object: the seconds of a batch, by its size.
"""

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# An export is compared, and timed, on the CPU.
os.environ.update(CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

Run = Callable[[np.ndarray], dict[str, np.ndarray]]

LARGEST_BATCH = 32
TIMED_BATCHES = (1, 32)
_RUNS, _SECONDS = 20, 1.0


def saved_model(path: Path) -> Run:
    """TensorFlow."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run(images):
        return {name: value.numpy() for name, value in serve(images=tf.constant(images)).items()}

    return run


def stablehlo(path: Path) -> Run:
    """JAX alone."""
    from jax import export

    # It says that it returns one array.
    call: Callable[..., Any] = export.deserialize(bytearray(path.read_bytes())).call
    return lambda images: {name: np.asarray(value) for name, value in call(images).items()}


def tflite(path: Path) -> Run:
    """TensorFlow Lite's interpreter."""
    import tensorflow as tf

    # TensorFlow announces that it will hand its interpreter over to another package.
    warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
    interpreter = tf.lite.Interpreter(model_path=str(path))
    serve: Any = interpreter.get_signature_runner("serving_default")
    return lambda images: serve(images=images)


def onnx(path: Path) -> Run:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    run: Any = session.run
    return lambda images: dict(zip(names, run(names, {"images": images}), strict=True))


def hf(path: Path) -> Run:
    """PyTorch and Hugging Face's transformers."""
    import torch
    from transformers import AutoImageProcessor, ViTForImageClassification

    # Asked for what it loads, it returns that too.
    loaded: Any = ViTForImageClassification.from_pretrained(
        path, dtype="auto", local_files_only=True, output_loading_info=True
    )
    model, found = loaded
    wrong = {problem: sorted(map(str, names)) for problem, names in found.items() if names}
    if wrong:
        sys.exit(f"transformers does not take the weights as they are: {wrong}")
    model.eval()
    processor = AutoImageProcessor.from_pretrained(path, local_files_only=True, backend="pil")
    output = "logits" if model.config.num_labels else "embedding"

    def run(images):
        # They are what it cuts out of an image.
        pixels = processor(
            list(images),
            do_resize=False,
            do_center_crop=False,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        with torch.inference_mode():
            answer = model(pixels["pixel_values"].to(model.dtype)).logits
        return {output: answer.float().numpy()}

    return run


def timm(path: Path) -> Run:
    """PyTorch and timm."""
    import timm
    import torch

    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    model: Any = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    model = model.to(getattr(torch, config["dtype"]))
    mean, std = (np.float32(config["pretrained_cfg"][key]) for key in ("mean", "std"))

    def run(images):
        pixels = (images.astype(np.float32) / 255 - mean) / std
        pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(next(model.parameters()).dtype)
        with torch.inference_mode():
            embedding = model.forward_head(model.forward_features(pixels), pre_logits=True)
            answers = {"embedding": embedding}
            if config["num_classes"]:
                answers["logits"] = model(pixels)
        return {name: answer.float().numpy() for name, answer in answers.items()}

    return run


RUNTIMES = {f.__name__: f for f in (saved_model, stablehlo, tflite, onnx, hf, timm)}


def seconds(run: Run, images: np.ndarray) -> float:
    """The median time of a call."""
    run(images)
    times = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def hide_what_is_absent(runtime: str) -> None:
    """Makes imports fail of what there is none of where a model is used; converters load it."""
    # TensorFlow loads Keras, which takes seconds, and goes on without it.
    absent = {"distill", "flax", "orbax", "keras"} | ({"jax"} if runtime != "stablehlo" else set())
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))


def main(runtime: str, model: Path, directory: Path) -> dict[str, float]:
    """Runs every input, in batches of at most 32; returns the seconds of a batch, by its size."""
    run = RUNTIMES[runtime](model)
    outputs = {}
    with np.load(directory / "inputs.npz", allow_pickle=False) as inputs:
        for name in inputs:
            images = inputs[name]
            parts = np.split(images, range(LARGEST_BATCH, len(images), LARGEST_BATCH))
            answers = [run(part) for part in parts]
            for output in answers[0]:
                outputs[f"{name}/{output}"] = np.concatenate([answer[output] for answer in answers])
    np.savez(directory / "outputs.npz", **outputs)
    return {
        str(size): seconds(run, np.resize(images, (size, *images.shape[1:])))
        for size in TIMED_BATCHES
    }


if __name__ == "__main__":
    hide_what_is_absent(sys.argv[1])
    print(json.dumps(main(sys.argv[1], *map(Path, sys.argv[2:]))))
