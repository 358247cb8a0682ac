"""Safetensors under the names of Hugging Face's `ViTForImageClassification`."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill.export.model import Artefact, Exportable, require
from distill.export.torch_weights import parameters, per_channel, plain_obstacle, save
from distill.json_files import write_json
from distill.names import huggingface as names
from distill.names.rules import PREFIX_POSITIONS, write_tensors
from distill.nn import VisionNetwork


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      UserError: if PyTorch or transformers are missing.
    """
    require("hf", "-c constraints.txt -e '.[reference]'", "safetensors", "torch", "transformers")


def obstacle(network: VisionNetwork, dtype: str) -> str | None:
    """What keeps a network out of the format: all but a plain one with a class token."""
    del dtype
    # Its other models that pool do so before the last norm, or through another projection.
    return plain_obstacle(network, ("cls",))


def write(model: Exportable, directory: Path) -> Artefact:
    """Writes model.safetensors, config.json and preprocessor_config.json.

    A model without classifier is written with no labels: its "logits" are the embedding.
    """
    directory.mkdir()
    save(tensors(model), directory)
    write_json(directory / "config.json", _config(model))
    write_json(directory / "preprocessor_config.json", _preprocessor(model))
    return Artefact("Hugging Face", "hf", directory, exact=model.dtype == "float32")


def tensors(model: Exportable) -> dict[str, np.ndarray]:
    """The parameters by their names there."""
    found = parameters(model)
    # The class token has a position there, and none here.
    found[PREFIX_POSITIONS] = np.zeros_like(found["class_token"])
    written = write_tensors(names.vit(), found, model.network.config.depth)
    inner = (name if name.startswith("classifier") else f"vit.{name}" for name in written)
    return dict(zip(inner, written.values(), strict=True))


def _config(model: Exportable) -> dict[str, Any]:
    config = model.network.config
    height, width, channels = config.image_shape
    labels = {str(number): name for number, name in enumerate(model.class_names)}
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": config.qkv_bias,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch_size,
        "num_channels": channels,
        "id2label": labels,
        "label2id": {name: int(number) for number, name in labels.items()},
        "problem_type": "multi_label_classification"
        if model.activation == "sigmoid"
        else "single_label_classification",
        "dtype": model.dtype,
    }


def _preprocessor(model: Exportable) -> dict[str, Any]:
    height, width, channels = model.image_shape
    normalisation, view = per_channel(model), model.view
    side = view.resized(height, height, height)[0]
    # Of each class what all releases of transformers do: ViT's cuts nothing in some of them.
    if view.resize == "shortest":
        kind, size = "CLIPImageProcessor", {"shortest_edge": side}
    else:
        kind = "ViTImageProcessor" if view.crop == 1 else "DeiTImageProcessor"
        size = {"height": side, "width": side}
    cut = {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return {
        "image_processor_type": kind,
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "size": size,
        "resample": int(Image.Resampling[view.filter.upper()]),
        **({} if kind == "ViTImageProcessor" else cut),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": normalisation["mean"],
        "image_std": normalisation["std"],
    }
