"""SavedModel: a model with its preprocessing inside, for TensorFlow and TF Serving.

A version is written under a temporary name, loaded by a process that knows only TensorFlow and
NumPy, compared with JAX, and renamed when it agrees: a version that is there is a good one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import RunFailed, UserError
from distill.nn import Network, Params

Activation = Literal["softmax", "sigmoid"]

CHECKED_BATCH_SIZES = (1, 3, 64)
TOLERANCE = 1e-4
_CHECKER = Path(__file__).with_name("check_saved_model.py")


class ExportMismatch(RunFailed):
    """The exported model does not compute what JAX computes."""


def serving_function(network: Network, activation: Activation) -> Callable[..., dict]:
    """Maps (params, uint8 images [B, H, W, C]) to logits, probabilities and embedding, float32."""
    # One program serves every platform, whatever this machine has.
    network = network.with_attention("plain")
    probabilities = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[activation]

    def serve(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        outputs = network.apply(params, network.prepare(images))
        return {
            "logits": outputs.logits,
            "probabilities": probabilities(outputs.logits),
            "embedding": outputs.embedding.astype(jnp.float32),
        }

    return serve


def export_saved_model(
    network: Network,
    params: Params,
    class_names: Sequence[str],
    directory: Path,
    *,
    activation: Activation = "softmax",
    samples: np.ndarray | None = None,
) -> tuple[Path, float]:
    """Writes the next version under `directory`, as TF Serving expects it, and checks it.

    The signature `serving_default` takes uint8 `images` [None, H, W, C] at the model's resolution
    and returns float32 `logits`, `probabilities` [None, classes] and `embedding` [None, width].
    The asset `class_names.txt` has a class per line, in the order of the logits.

    Args:
      network: what to export; its compute dtype is that of the export.
      params: its parameters.
      class_names: one per logit.
      directory: of all versions; created if missing.
      activation: from logits to probabilities.
      samples: uint8 [N, H, W, C] to compare on; random pixels if None.

    Returns:
      The version's directory and the largest difference of a logit from JAX.

    Raises:
      UserError: if the directory cannot be written or TensorFlow is missing.
      ExportMismatch: if the reloaded model differs from JAX by more than 1e-4.
    """
    serve = serving_function(network, activation)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".exporting-", dir=directory))
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from error
    try:
        _write(serve, network, params, class_names, staging / "model")
        difference = _check(serve, network, params, samples, staging)
        version = directory / str(_next_version(directory))
        (staging / "model").rename(version)
    finally:
        shutil.rmtree(staging)
    return version, difference


def _write(serve, network: Network, params: Params, class_names: Sequence[str], path: Path) -> None:
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise UserError("export needs TensorFlow: pip install -e '.[export]'") from error
    from jax.experimental import jax2tf

    height, width, channels = network.config.image_shape
    converted = jax2tf.convert(
        serve,
        polymorphic_shapes=[None, f"(batch, {height}, {width}, {channels})"],
        with_gradient=False,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
    )
    module = tf.Module()
    module.params = jax.tree.map(lambda p: tf.Variable(np.asarray(p)), params)
    names = path.with_name("class_names.txt")
    names.write_text("".join(f"{name}\n" for name in class_names))
    module.class_names = tf.saved_model.Asset(str(names))
    images = tf.TensorSpec([None, height, width, channels], tf.uint8, "images")
    function = tf.function(
        lambda images: converted(module.params, images), autograph=False, input_signature=[images]
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": function})


def _check(serve, network: Network, params: Params, samples, staging: Path) -> float:
    """Reloads the model in another process; returns the largest difference of a logit."""
    shape = network.config.image_shape
    if samples is None:
        samples = np.random.default_rng(0).integers(0, 256, (64, *shape), np.uint8)
    inputs = {
        str(size): np.resize(samples, (size, *shape)).astype(np.uint8)
        for size in CHECKED_BATCH_SIZES
    }
    np.savez(staging / "inputs.npz", **inputs)
    command = [sys.executable, "-I", str(_CHECKER), str(staging)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportMismatch(f"TensorFlow cannot run the exported model:\n{done.stderr[-2000:]}")
    modules = json.loads(done.stdout.splitlines()[-1])["modules"]
    if "jax" in modules:
        raise ExportMismatch("the check of the exported model loaded JAX; it proves nothing")
    # TensorFlow computed on the CPU; accelerators round float32 products unless told not to.
    cpu = jax.devices("cpu")[0]
    with (
        np.load(staging / "outputs.npz", allow_pickle=False) as outputs,
        jax.default_device(cpu),
        jax.default_matmul_precision("highest"),
    ):
        on_cpu = jax.device_put(jax.device_get(params), cpu)
        return max(
            _compare(jax.jit(serve)(on_cpu, images), outputs, size)
            for size, images in inputs.items()
        )


def _compare(expected: dict[str, jax.Array], outputs: np.lib.npyio.NpzFile, size: str) -> float:
    differences = {}
    for name, value in expected.items():
        exported = outputs[f"{size}/{name}"]
        if exported.shape != value.shape:
            raise ExportMismatch(
                f"{name} of the exported model has shape {exported.shape}, expected {value.shape}"
            )
        differences[name] = float(np.max(np.abs(exported - np.asarray(value)), initial=0.0))
    worst = max(differences, key=differences.get)
    if not differences[worst] <= TOLERANCE:
        raise ExportMismatch(
            f"{worst} of the exported model differs from JAX by {differences[worst]:.2e} for batch "
            f"size {size}; allowed is {TOLERANCE}. Nothing was exported"
        )
    return differences["logits"]


def _next_version(directory: Path) -> int:
    versions = [int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdigit()]
    return max(versions, default=0) + 1
