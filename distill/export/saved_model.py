"""SavedModel: a model with its preprocessing inside, for TensorFlow and TF Serving."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill.export.model import Artefact, Exportable, NotInstalled, converting, require
from distill.nn import Network

CLASSES = "class_names.txt"
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"

# The first whose StableHLO TensorFlow 2.21 does not read; the extra `export` installs an older one.
TOO_NEW_JAX = (0, 11)


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      NotInstalled: as `require_tensorflow`.
    """
    require_tensorflow("saved_model")


def require_tensorflow(form: str) -> None:
    """Checks that there are TensorFlow and a jax of which it reads what that writes.

    Raises:
      NotInstalled: if there are not.
    """
    extra = "-e '.[export]'"
    require(form, extra, "tensorflow")
    if jax.__version_info__ >= TOO_NEW_JAX:
        raise NotInstalled(
            f"the format {form} is written by TensorFlow, which does not read what jax "
            f"{jax.__version__} writes: pip install {extra} brings an older one; "
            "--format=stablehlo needs JAX alone"
        )


def obstacle(network: Network, dtype: str) -> None:
    """What keeps a network out of the format: nothing does."""
    del network, dtype


def write(model: Exportable, directory: Path) -> Artefact:
    """Writes a SavedModel: a version as TF Serving expects it.

    The signature `serving_default` is the model's function: of a classifier it takes uint8 `images`
    [None, H, W, C] and returns float32 `logits`, `probabilities` [None, classes] and `embedding`
    [None, width], and the asset `class_names.txt` has a class per line, in the order of the logits.
    A request that TF Serving sends itself before it takes others lies where it looks for one.
    """
    save(model, directory)
    warmup = directory / WARMUP
    warmup.parent.mkdir()
    shapes = model.example_shapes(1)
    zeros = {name: np.zeros(shapes[name], x.dtype) for name, x in model.inputs.items()}
    write_warmup(warmup, zeros)
    return Artefact("SavedModel", "saved_model", directory, exact=model.dtype == "float32")


def save(model: Exportable, directory: Path, *, unroll: bool = False) -> None:
    """Writes the SavedModel itself; its layers are unrolled for converters that read it.

    Raises:
      ExportFailed: if TensorFlow cannot.
    """
    import tensorflow as tf

    with converting("SavedModel", tf.errors.OpError):
        _save(model, directory, unroll)


def _save(model: Exportable, directory: Path, unroll: bool) -> None:
    import tensorflow as tf
    from jax.experimental import jax2tf

    inputs = model.inputs
    converted = jax2tf.convert(
        model.function(unroll=unroll, remat="none", remat_keep=()),
        polymorphic_shapes=[
            None,
            *(f"(batch, {', '.join(_symbols(x.shape))})" for x in inputs.values()),
        ],
        with_gradient=False,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
    )
    # What it is given is saved with it.
    module: Any = tf.Module()
    module.params = jax.tree.map(tf.Variable, model.host_params)
    if model.class_names is not None:
        names = directory.with_name(f"{directory.name}_class_names") / CLASSES
        names.parent.mkdir()
        names.write_text("".join(f"{name}\n" for name in model.class_names), encoding="utf-8")
        module.class_names = tf.saved_model.Asset(str(names))
    function = tf.function(
        lambda *inputs: converted(module.params, *inputs),
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, *x.shape], x.dtype, name) for name, x in inputs.items()
        ],
    )
    tf.saved_model.save(module, str(directory), signatures={"serving_default": function})


def _symbols(shape: Sequence[int | None]) -> list[str]:
    """Sides as jax2tf takes them: by name where any size may be."""
    names = iter(("height", "width"))
    return [next(names) if side is None else str(side) for side in shape]


def write_warmup(file: Path, inputs: Mapping[str, np.ndarray]) -> None:
    """Writes a TFRecord with one PredictionLog, a request for `inputs`, by name.

    TF Serving's own Python package would pin TensorFlow for the sake of four nested messages
    (prediction_log.proto, predict.proto, model.proto), so they are encoded here.
    """
    import tensorflow as tf

    request = _field(1, _field(3, b"serving_default"))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    predict_log = _field(1, request)
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(_field(6, predict_log))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
