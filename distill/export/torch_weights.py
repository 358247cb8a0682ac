"""What the formats that PyTorch reads have in common: which models they take, and what of them."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np

from distill.config import execution_keys
from distill.names.huggingface import BLOCK
from distill.nn import Params, TextConfig, VisionNetwork
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
        return (
            "its classifier is a linear one, without classes that are texts"
            if config.num_classes
            else "its embedding is what it pools, not projected and of length 1"
        )
    foreign = foreign_choices(config)
    if config.head not in heads:
        foreign.append(f"head={config.head!r} (it has {' or '.join(heads)})")
    if not foreign:
        return None
    return f"its vision transformer is a plain one, without {', '.join(foreign)}"


def foreign_choices(config: ViTConfig, held: Collection[str] = ()) -> list[str]:
    """The choices of an image tower that a plain transformer does not have, but for its head.

    Args:
      config: of the tower.
      held: other choices that a library's transformer leaves open.
    """
    plain = {field.name: field.default for field in dataclasses.fields(ViTConfig)}
    ignored = _ANY.union(held, execution_keys(type(config)))
    foreign = [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in ignored and getattr(config, field.name) != plain.get(field.name, False)
    ]
    if config.position_embedding == "rotary":
        # A table can hold the others.
        foreign.append("position_embedding='rotary'")
    return foreign


def parameters(params: Params, config: ViTConfig | TextConfig | None) -> dict[str, np.ndarray]:
    """The parameters by names such as "encoder/norm/scale", with those that the formats insist on.

    Norms without bias get zeros; sine-cosine positions become a table.

    Args:
      params: NumPy arrays.
      config: of the transformer whose they are; None of none.
    """
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    for name in [name for name in found if name.endswith("norm/scale")]:
        found.setdefault(f"{name.removesuffix('scale')}bias", np.zeros_like(found[name]))
    if isinstance(config, ViTConfig) and config.position_embedding == "sincos2d":
        table = sincos2d(config.grid, config.width)
        found["position/table"] = table.astype(found["encoder/norm/scale"].dtype)
    return found


def with_qkv_bias(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of a tower, with zeros for a bias of queries, keys and values it has not."""
    zeros = {}
    for part in ("query", "key", "value"):
        kernel = found[f"{BLOCK}/attention/{part}/kernel"]
        zeros[f"{BLOCK}/attention/{part}/bias"] = np.zeros_like(kernel[:, 0])
    return zeros | found


def per_channel(network: VisionNetwork) -> dict[str, list[float]]:
    """Mean and standard deviation that images are normalised with, for each channel."""
    config = network.config
    return {
        name: np.broadcast_to(getattr(config, name), config.channels).tolist()
        for name in ("mean", "std")
    }


def save(tensors: dict[str, np.ndarray], directory: Path) -> None:
    """Writes model.safetensors."""
    from safetensors.numpy import save_file

    whole = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    save_file(whole, directory / FILE, metadata={"format": "pt"})
