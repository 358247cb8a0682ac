"""SavedModel: a model with its preprocessing inside, for TensorFlow and TF Serving."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill.export.model import Artefact, Exportable, NotInstalled, converting, require
from distill.nn import VisionNetwork

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


def obstacle(network: VisionNetwork, dtype: str) -> None:
    """What keeps a network out of the format: nothing does."""
    del network, dtype


def write(model: Exportable, directory: Path) -> Artefact:
    """Writes a SavedModel: a version as TF Serving expects it.

    The signature `serving_default` takes uint8 `images` [None, H, W, C] at the model's resolution
    and returns float32 `logits`, `probabilities` [None, classes] and `embedding` [None, width].
    The asset `class_names.txt` has a class per line, in the order of the logits. A request that
    TF Serving sends itself before it takes others lies where it looks for one.
    """
    save(model, directory)
    warmup = directory / WARMUP
    warmup.parent.mkdir()
    write_warmup(warmup, np.zeros((1, *model.image_shape), np.uint8))
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

    height, width, channels = model.image_shape
    converted = jax2tf.convert(
        model.function(unroll=unroll, remat="none", remat_keep=()),
        polymorphic_shapes=[None, f"(batch, {height}, {width}, {channels})"],
        with_gradient=False,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
    )
    # What it is given is saved with it.
    module: Any = tf.Module()
    module.params = jax.tree.map(tf.Variable, model.host_params)
    names = directory.with_name(f"{directory.name}_class_names") / "class_names.txt"
    names.parent.mkdir()
    names.write_text("".join(f"{name}\n" for name in model.class_names), encoding="utf-8")
    module.class_names = tf.saved_model.Asset(str(names))
    images = tf.TensorSpec([None, height, width, channels], tf.uint8, "images")
    function = tf.function(
        lambda images: converted(module.params, images), autograph=False, input_signature=[images]
    )
    tf.saved_model.save(module, str(directory), signatures={"serving_default": function})


def write_warmup(file: Path, images: np.ndarray) -> None:
    """Writes a TFRecord with one PredictionLog, a request for `images`.

    TF Serving's own Python package would pin TensorFlow for the sake of four nested messages
    (prediction_log.proto, predict.proto, model.proto), so they are encoded here.
    """
    import tensorflow as tf

    tensor = tf.make_tensor_proto(images).SerializeToString()
    model_spec = _field(3, b"serving_default")
    inputs = _field(1, b"images") + _field(2, tensor)
    request = _field(1, model_spec) + _field(2, inputs)
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
