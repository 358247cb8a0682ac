"""What the formats that PyTorch reads have in common: which models they take, and tensors by name.

PyTorch's linear maps hold [out, in], ours [*in, *out]; its convolutions [out, in, height, width].
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import UserError
from distill.export.model import Exportable
from distill.nn.embeddings import sincos2d
from distill.nn.vit import ViTConfig

FILE = "model.safetensors"

Tensors = dict[str, np.ndarray]

# Choices that are sizes, or that say how a model is trained, executed or fed.
_ANY = {
    *("width", "depth", "mlp_dim", "heads", "patch_size", "image_size", "channels", "mean", "std"),
    *("num_classes", "head", "position_embedding", "qkv_bias", "norm_bias", "classifier_bias"),
    *("dtype", "remat", "remat_keep", "unroll", "attention", "fused", "async_linear"),
}


def check_plain(model: Exportable, form: str, heads: Mapping[str, str]) -> None:
    """Checks that a format's transformer can be the model.

    Args:
      model: to export.
      form: the format's name.
      heads: those it has, and what it calls them.

    Raises:
      UserError: naming the choices that it cannot express.
    """
    config = model.network.config
    if config.head not in heads:
        raise UserError(
            f"the format {form} has no {config.head!r} head; it takes students with "
            f"config.model.head={' or '.join(heads)}. saved_model, stablehlo, tflite and onnx take "
            "every head"
        )
    plain = {field.name: field.default for field in dataclasses.fields(ViTConfig)}
    foreign = [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in _ANY and getattr(config, field.name) != plain.get(field.name, False)
    ]
    if foreign:
        raise UserError(
            f"the format {form} is a plain vision transformer, which this model is not: "
            f"{', '.join(foreign)}. saved_model, stablehlo, tflite and onnx take it as it is"
        )


def linear(name: str, params: Mapping[str, np.ndarray], *, inputs: int = 1) -> Tensors:
    """A linear map whose kernel has this many input axes."""
    kernel = params["kernel"]
    fan_in = int(np.prod(kernel.shape[:inputs]))
    tensors = {f"{name}.weight": kernel.reshape(fan_in, -1).T}
    if "bias" in params:
        tensors[f"{name}.bias"] = params["bias"].reshape(-1)
    return tensors


def norm(name: str, params: Mapping[str, np.ndarray]) -> Tensors:
    """A layer normalisation; one without bias gets zeros."""
    scale = params["scale"]
    return {f"{name}.weight": scale, f"{name}.bias": params.get("bias", np.zeros_like(scale))}


def convolution(name: str, params: Mapping[str, np.ndarray]) -> Tensors:
    """The patch embedding, whose kernel is [height, width, in, out]."""
    return {
        f"{name}.weight": params["kernel"].transpose(3, 2, 0, 1),
        f"{name}.bias": params["bias"],
    }


def joined(*layers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Projections of [D] to heads side by side: one of [D] to all of them."""
    width = layers[0]["kernel"].shape[0]
    whole = {"kernel": np.concatenate([one["kernel"].reshape(width, -1) for one in layers], axis=1)}
    if "bias" in layers[0]:
        whole["bias"] = np.concatenate([one["bias"].reshape(-1) for one in layers])
    return whole


def positions(model: Exportable, params: Mapping[str, Any]) -> np.ndarray:
    """The position embedding of all patches, [1, T, D], learned or computed."""
    config = model.network.config
    if config.position_embedding == "sincos2d":
        table = sincos2d(config.grid, config.width).astype(model.dtype)
    else:
        table = params["position"]["table"]
    return table.reshape(1, -1, config.width)


def layer(params: Any, number: int) -> Any:
    """One layer of stacked parameters."""
    if isinstance(params, Mapping):
        return {name: layer(part, number) for name, part in params.items()}
    return params[number]


def per_channel(model: Exportable) -> dict[str, list[float]]:
    """Mean and standard deviation that images are normalised with, for each channel."""
    config = model.network.config
    return {
        name: np.broadcast_to(getattr(config, name), config.channels).tolist()
        for name in ("mean", "std")
    }


def save(tensors: Tensors, directory: Path) -> None:
    """Writes model.safetensors."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(whole, directory / FILE, metadata={"format": "pt"})
