"""Safetensors under the names of Hugging Face's `ViTForImageClassification`."""

from pathlib import Path
from typing import Any

import numpy as np

from distill.export.model import Artefact, Exportable, require
from distill.export.torch_weights import (
    Tensors,
    check_plain,
    convolution,
    layer,
    linear,
    norm,
    per_channel,
    positions,
    save,
)
from distill.json_files import write_json


def write(model: Exportable, directory: Path) -> list[Artefact]:
    """Writes model.safetensors, config.json and preprocessor_config.json.

    A model without classifier is written with no labels: its "logits" are the embedding.

    Raises:
      UserError: for a model that is not a plain one with a class token, or if PyTorch or
        transformers are missing.
    """
    require("hf", "-c constraints.txt -e '.[reference]'", "safetensors", "torch", "transformers")
    # Its other models that pool do so before the last norm, or through another projection.
    check_plain(model, "hf", {"cls": "class token"})
    directory.mkdir()
    save(tensors(model), directory)
    write_json(directory / "config.json", _config(model))
    write_json(directory / "preprocessor_config.json", _preprocessor(model))
    return [Artefact("Hugging Face", "hf", directory, exact=model.dtype == "float32")]


def tensors(model: Exportable) -> Tensors:
    """The parameters by their names there."""
    params = model.host_params
    encoder, token = params["encoder"], params["class_token"]
    # The token has a position there, and none here.
    table = np.concatenate([np.zeros_like(token), positions(model, params)], axis=1)
    found = {
        "vit.embeddings.cls_token": token,
        "vit.embeddings.position_embeddings": table,
        **convolution(
            "vit.embeddings.patch_embeddings.projection", params["patch_embed"]["linear"]
        ),
        **norm("vit.layernorm", encoder["norm"]),
    }
    for number in range(model.network.config.depth):
        block, name = layer(encoder["blocks"], number), f"vit.encoder.layer.{number}"
        found |= norm(f"{name}.layernorm_before", block["attention_norm"])
        for part in ("query", "key", "value"):
            found |= linear(f"{name}.attention.attention.{part}", block["attention"][part])
        found |= linear(f"{name}.attention.output.dense", block["attention"]["out"], inputs=2)
        found |= norm(f"{name}.layernorm_after", block["mlp_norm"])
        found |= linear(f"{name}.intermediate.dense", block["mlp"]["input"])
        found |= linear(f"{name}.output.dense", block["mlp"]["output"])
    if "classifier" in params:
        found |= linear("classifier", params["classifier"])
    return found


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
    height, width, _ = model.image_shape
    normalisation = per_channel(model)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": normalisation["mean"],
        "image_std": normalisation["std"],
    }
