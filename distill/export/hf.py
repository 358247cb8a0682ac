"""Safetensors under Hugging Face's names: `ViTForImageClassification`, or a pair's (hf_pairs)."""

from pathlib import Path
from typing import Any

import numpy as np

from distill.export import hf_pairs
from distill.export.images import ImageExportable
from distill.export.model import Artefact, require
from distill.export.pairs import PairExportable
from distill.export.processor import fed_size, processor_config
from distill.export.torch_weights import parameters, plain_obstacle, save
from distill.json_files import write_json
from distill.names import huggingface as names
from distill.names.rules import PREFIX_POSITIONS, write_tensors
from distill.nn import PairNetwork, VisionNetwork


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      UserError: if PyTorch or transformers are missing.
    """
    require("hf", "-c constraints.txt -e '.[reference]'", "safetensors", "torch", "transformers")


def obstacle(network: VisionNetwork, dtype: str) -> str | None:
    """What keeps a network out of the format: all but a plain one with a class token, or a pair."""
    del dtype
    if isinstance(network, PairNetwork):
        return hf_pairs.obstacle(network)
    # Its other models that pool do so before the last norm, or through another projection.
    return plain_obstacle(network, ("cls",))


def write(model: ImageExportable | PairExportable, directory: Path) -> Artefact:
    """Writes model.safetensors, config.json and preprocessor_config.json; of a pair, see hf_pairs.

    A model without classifier is written with no labels: its "logits" are the embedding.
    """
    if isinstance(model, PairExportable):
        return hf_pairs.write(model, directory)
    directory.mkdir()
    save(tensors(model), directory)
    write_json(directory / "config.json", _config(model))
    processor = processor_config(model.network, model.view)
    write_json(directory / "preprocessor_config.json", processor)
    return Artefact("Hugging Face", "hf", directory, exact=model.dtype == "float32")


def tensors(model: ImageExportable) -> dict[str, np.ndarray]:
    """The parameters by their names there."""
    config = model.network.config
    found = parameters(model.host_params, config)
    # The class token has a position there, and none here.
    found[PREFIX_POSITIONS] = np.zeros_like(found["class_token"])
    written = write_tensors(names.vit(), found, config.depth)
    inner = (name if name.startswith("classifier") else f"vit.{name}" for name in written)
    return dict(zip(inner, written.values(), strict=True))


def _config(model: ImageExportable) -> dict[str, Any]:
    config = model.network.config
    height, width = fed_size(model.network, model.view)
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
        "num_channels": config.channels,
        "id2label": labels,
        "label2id": {name: int(number) for number, name in labels.items()},
        "problem_type": "multi_label_classification"
        if model.activation == "sigmoid"
        else "single_label_classification",
        "dtype": model.dtype,
    }
