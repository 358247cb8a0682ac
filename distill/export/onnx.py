"""ONNX, by jax2onnx."""

import json
import logging
from pathlib import Path

import jax

from distill.errors import UserError
from distill.export.model import Artefact, Exportable, require

FILE = "model.onnx"


def check(model: Exportable) -> None:
    """Checks that the model can be written.

    Raises:
      UserError: for another dtype than float32, or if a converter or runtime is missing.
    """
    require("onnx", "-c constraints.txt -e '.[onnx]'", "jax2onnx", "onnx", "onnxruntime")
    if model.dtype != "float32":
        raise UserError(f"ONNX is written in float32, not in {model.dtype}")


def write(model: Exportable, directory: Path) -> list[Artefact]:
    """Writes `model.onnx`, with free batch, and its class names in the metadata."""
    # The converter tells of plugins for libraries that are not asked for.
    logging.getLogger("jax2onnx").setLevel(logging.CRITICAL)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    import jax2onnx
    import onnx

    params, serve = model.host_params, model.function(unroll=True, remat="none", remat_keep=())
    images = jax.ShapeDtypeStruct((1, *model.image_shape), "uint8")
    names = sorted(jax.eval_shape(serve, params, images))
    directory.mkdir()
    jax2onnx.to_onnx(
        lambda images: tuple(serve(params, images)[name] for name in names),
        inputs=[jax.ShapeDtypeStruct(("batch", *model.image_shape), "uint8")],
        input_names=["images"],
        output_names=names,
        return_mode="file",
        output_path=directory / FILE,
    )
    written = onnx.load(directory / FILE)
    onnx.helper.set_model_props(written, {"class_names": json.dumps(list(model.class_names))})
    onnx.save(written, directory / FILE)
    return [Artefact("ONNX", "onnx", directory / FILE, exact=True)]
