"""Safetensors under timm's names, with the config that `timm.create_model` reads."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from distill.export.images import ImageExportable
from distill.export.model import Artefact, require
from distill.export.torch_weights import parameters, per_channel, plain_obstacle, save
from distill.json_files import write_json
from distill.names.rules import write_tensors
from distill.names.timm import table
from distill.nn import VisionNetwork

_POOLS = {"map": "map", "gap": "avg", "cls": "token"}

# timm's plain transformers by width; whatever differs in ours is an argument.
_ARCHITECTURES = {
    192: "vit_tiny_patch16_224",
    384: "vit_small_patch16_224",
    768: "vit_base_patch16_224",
    1024: "vit_large_patch16_224",
    1280: "vit_huge_patch14_224",
}
_ARCHITECTURE = "vit_base_patch16_224"


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      UserError: if timm or what it imports is missing.
    """
    packages = ("torch", "torchvision", "timm")
    # A torchvision of another release than torch's breaks both.
    require("timm", " ".join(packages), *packages)


def obstacle(network: VisionNetwork, dtype: str) -> str | None:
    """What keeps a network out of the format: all but a plain one."""
    del dtype
    return plain_obstacle(network, _POOLS)


def write(model: ImageExportable, directory: Path) -> Artefact:
    """Writes model.safetensors and config.json, for `timm.create_model("local-dir:DIRECTORY")`."""
    directory.mkdir()
    save(tensors(model), directory)
    write_json(directory / "config.json", _config(model))
    return Artefact("timm", "timm", directory, exact=model.dtype == "float32")


def tensors(model: ImageExportable) -> dict[str, np.ndarray]:
    """The parameters by their names there."""
    config = model.network.config
    return write_tensors(table(), parameters(model.host_params, config), config.depth)


def _config(model: ImageExportable) -> dict[str, Any]:
    config = model.network.config
    height, width, channels = config.image_shape
    pool = _POOLS[config.head]
    return {
        "architecture": _ARCHITECTURES.get(config.width, _ARCHITECTURE),
        "num_classes": config.num_classes,
        "num_features": config.width,
        "global_pool": pool,
        "label_names": list(model.class_names),
        "dtype": model.dtype,
        "model_args": {
            "img_size": [height, width],
            "patch_size": config.patch_size,
            "in_chans": channels,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "mlp_ratio": _ratio(config.mlp_dim, config.width),
            "qkv_bias": config.qkv_bias,
            "act_layer": "gelu_tanh",
            "global_pool": pool,
            "class_token": config.head == "cls",
            # Tokens are normalised before they are pooled, and the class token has no position.
            "fc_norm": False,
            "no_embed_class": True,
        },
        "pretrained_cfg": {
            "input_size": [channels, height, width],
            "fixed_input_size": True,
            "interpolation": model.view.filter,
            "crop_pct": model.view.crop,
            "crop_mode": "center" if model.view.resize == "shortest" else "squash",
            **per_channel(model.network),
            "num_classes": config.num_classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _ratio(mlp_dim: int, width: int) -> float:
    """What timm multiplies the width with, rounding down, to get the MLP's."""
    ratio = mlp_dim / width
    return ratio if int(width * ratio) == mlp_dim else math.nextafter(ratio, math.inf)
