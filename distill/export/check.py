"""Runs an exported model in its own runtime, without this project; a script, which nothing imports.

  python check.py RUNTIME MODEL DIR [BATCH …]

reads DIR/inputs.npz (batch/input: array, such as 3/images, uint8 [3, H, W, C]), runs the model on
each batch and writes DIR/outputs.npz (batch/output: array). Prints a JSON object: the seconds of a
batch, by its size; of those that are named, of 1 and 32 where none is.
"""

import json
import os
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# An export is compared, and timed, on the CPU.
os.environ.update(CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

LARGEST_BATCH = 32
TIMED_BATCHES = (1, 32)
_RUNS, _SECONDS = 20, 1.0


def saved_model(path: Path) -> Run:
    """TensorFlow."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run(inputs):
        answers = serve(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answers.items()}

    return run


def stablehlo(path: Path) -> Run:
    """JAX alone."""
    from jax import export

    # It says that it returns one array.
    call: Callable[..., Any] = export.deserialize(bytearray(path.read_bytes())).call

    def run(inputs):
        return {name: np.asarray(value) for name, value in call(*inputs.values()).items()}

    return run


def tflite(path: Path) -> Run:
    """TensorFlow Lite's interpreter."""
    import tensorflow as tf

    # TensorFlow announces that it will hand its interpreter over to another package.
    warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
    interpreter = tf.lite.Interpreter(model_path=str(path))
    serve: Any = interpreter.get_signature_runner("serving_default")
    return lambda inputs: serve(**inputs)


def onnx(path: Path) -> Run:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    run: Any = session.run
    return lambda inputs: dict(zip(names, run(names, inputs), strict=True))


def hf(path: Path) -> Run:
    """PyTorch and Hugging Face's transformers."""
    import torch
    from transformers import ViTForImageClassification

    model, pixels = _pretrained(ViTForImageClassification, path)
    output = "logits" if model.config.num_labels else "embedding"

    def run(inputs):
        with torch.inference_mode():
            answer = model(pixels(inputs["images"], model.config.image_size)).logits
        return {output: answer.float().numpy()}

    return run


def hf_pair(path: Path) -> Run:
    """The same, of a pair: each image with several texts of its own."""
    import torch
    from transformers import AutoModel

    model, pixels = _pretrained(AutoModel, path)

    def run(inputs):
        ids = torch.from_numpy(inputs["ids"]).long()
        count, texts, length = ids.shape
        with torch.inference_mode():
            told = model(
                input_ids=ids.reshape(-1, length),
                pixel_values=pixels(inputs["images"], model.config.vision_config.image_size),
            )
        every, own = told.logits_per_image.reshape(count, count, texts), torch.arange(count)
        answers = {
            "image_embedding": told.image_embeds,
            "text_embedding": told.text_embeds.reshape(count, texts, -1),
            "logits": every[own, own],
        }
        return {name: answer.float().numpy() for name, answer in answers.items()}

    return run


def _pretrained(kind: Any, path: Path) -> tuple[Any, Callable[[np.ndarray, Any], Any]]:
    """A model of transformers, and what makes of its images what it takes."""
    import torch
    from transformers import AutoImageProcessor

    # Asked for what it loads, it returns that too.
    loaded: Any = kind.from_pretrained(
        path, dtype="auto", local_files_only=True, output_loading_info=True
    )
    model, found = loaded
    wrong = {problem: sorted(map(str, names)) for problem, names in found.items() if names}
    if wrong:
        sys.exit(f"transformers does not take the weights as they are: {wrong}")
    model.eval()
    processor = AutoImageProcessor.from_pretrained(path, local_files_only=True, backend="pil")

    def pixels(images, size):
        # They are what it cuts out of an image, but for what no patch reaches.
        sides = np.broadcast_to(size, 2) - images.shape[1:3]
        whole = np.pad(images, ((0, 0), *((0, side) for side in sides), (0, 0)))
        found = processor(
            list(whole),
            do_resize=False,
            do_center_crop=False,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        return torch.as_tensor(found["pixel_values"]).to(model.dtype)

    return model, pixels


def timm(path: Path) -> Run:
    """PyTorch and timm."""
    import timm
    import torch

    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    model: Any = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    model = model.to(getattr(torch, config["dtype"]))
    mean, std = (np.float32(config["pretrained_cfg"][key]) for key in ("mean", "std"))

    def run(inputs):
        pixels = (inputs["images"].astype(np.float32) / 255 - mean) / std
        pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(next(model.parameters()).dtype)
        with torch.inference_mode():
            embedding = model.forward_head(model.forward_features(pixels), pre_logits=True)
            answers = {"embedding": embedding}
            if config["num_classes"]:
                answers["logits"] = model(pixels)
        return {name: answer.float().numpy() for name, answer in answers.items()}

    return run


RUNTIMES = {f.__name__: f for f in (saved_model, stablehlo, tflite, onnx, hf, hf_pair, timm)}


def seconds(run: Run, inputs: Arrays) -> float:
    """The median time of a call."""
    run(inputs)
    times = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def of_size(inputs: Arrays, size: int) -> Arrays:
    """A batch of so many examples, again from the first where there are no more."""
    return {name: np.resize(value, (size, *value.shape[1:])) for name, value in inputs.items()}


def read_batches(file: Path) -> dict[str, Arrays]:
    """The inputs of each batch, by its name."""
    batches: dict[str, Arrays] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays:
            batch, _, of_batch = name.partition("/")
            batches.setdefault(batch, {})[of_batch] = arrays[name]
    return batches


def parts(inputs: Arrays) -> list[Arrays]:
    """The batch in parts of at most 32 examples."""
    count = len(next(iter(inputs.values())))
    starts = range(0, count, LARGEST_BATCH)
    return [{n: value[s : s + LARGEST_BATCH] for n, value in inputs.items()} for s in starts]


def hide_what_is_absent(runtime: str) -> None:
    """Makes imports fail of what there is none of where a model is used; converters load it."""
    # TensorFlow loads Keras, which takes seconds, and goes on without it.
    absent = {"distill", "flax", "orbax", "keras"} | ({"jax"} if runtime != "stablehlo" else set())
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))


def main(
    runtime: str, model: Path, directory: Path, timed: Sequence[int] = TIMED_BATCHES
) -> dict[str, float]:
    """Runs every input, in batches of at most 32; returns the seconds of a batch, by its size."""
    run = RUNTIMES[runtime](model)
    outputs, inputs = {}, {}
    for name, inputs in read_batches(directory / "inputs.npz").items():
        answers = [run(part) for part in parts(inputs)]
        for output in answers[0]:
            outputs[f"{name}/{output}"] = np.concatenate([answer[output] for answer in answers])
    np.savez(directory / "outputs.npz", **outputs)
    return {str(size): seconds(run, of_size(inputs, size)) for size in timed}


def end_with_the_parent() -> None:
    """Ends this process soon after the one that started it has ended, however that came."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    hide_what_is_absent(sys.argv[1])
    sizes = tuple(map(int, sys.argv[4:])) or TIMED_BATCHES
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sizes)))
