"""What the formats that PyTorch reads have in common: which models they take, and what of them."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np

from distill.config import execution_keys
from distill.export.model import Exportable
from distill.nn import VisionNetwork
from distill.nn.embeddings import sincos2d
from distill.nn.vit import ViTConfig

FILE = "model.safetensors"

# Choices that are sizes, or that say what a model is called, how it is trained or fed.
_ANY = {
    *("family", "variant", "width", "depth", "mlp_dim", "heads", "patch_size", "image_size"),
    *("channels", "mean", "std", "num_classes", "head", "position_embedding", "qkv_bias"),
    *("norm_bias", "classifier_bias", "dtype"),
}


def plain_obstacle(network: VisionNetwork, heads: Collection[str]) -> str | None:
    """The choices of a network that a library's transformer cannot express; None if there are none.

    Args:
      network: to export.
      heads: those the library's transformer has.
    """
    config = network.config
    if network.tower is not config:
        return "its classifier is a linear one, without classes that are texts"
    plain = {field.name: field.default for field in dataclasses.fields(ViTConfig)}
    ignored = _ANY.union(execution_keys(type(config)))
    foreign = [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in ignored and getattr(config, field.name) != plain.get(field.name, False)
    ]
    if config.position_embedding == "rotary":
        # A table can hold the others.
        foreign.append("position_embedding='rotary'")
    if config.head not in heads:
        foreign.append(f"head={config.head!r} (it has {' or '.join(heads)})")
    if not foreign:
        return None
    return f"its vision transformer is a plain one, without {', '.join(foreign)}"


def parameters(model: Exportable) -> dict[str, np.ndarray]:
    """The parameters by names such as "encoder/norm/scale", with those that the formats insist on.

    Norms without bias get zeros; sine-cosine positions become a table.
    """
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(model.host_params)
    }
    for name in [name for name in found if name.endswith("norm/scale")]:
        found.setdefault(f"{name.removesuffix('scale')}bias", np.zeros_like(found[name]))
    config = model.network.config
    if config.position_embedding == "sincos2d":
        found["position/table"] = sincos2d(config.grid, config.width).astype(model.dtype)
    return found


def per_channel(model: Exportable) -> dict[str, list[float]]:
    """Mean and standard deviation that images are normalised with, for each channel."""
    config = model.network.config
    return {
        name: np.broadcast_to(getattr(config, name), config.channels).tolist()
        for name in ("mean", "std")
    }


def save(tensors: dict[str, np.ndarray], directory: Path) -> None:
    """Writes model.safetensors."""
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    save_file(whole, directory / FILE, metadata={"format": "pt"})
