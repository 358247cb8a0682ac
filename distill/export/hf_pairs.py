"""Pairs under Hugging Face's names, in the layouts of `CLIPModel` and `SiglipModel`."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.data.tokens import Tokenizer
from distill.export.model import Artefact
from distill.export.pairs import PairExportable
from distill.export.processor import fed_size, processor_config
from distill.export.texts import copy_vocabulary
from distill.export.torch_weights import foreign_choices, parameters, save, with_qkv_bias
from distill.json_files import read_json, write_json
from distill.names import huggingface as names
from distill.names.rules import PREFIX_POSITIONS, Rule, write_tensors
from distill.nn import PairConfig, PairNetwork, TextConfig, ViTConfig
from teachers.pretrained.text import TEXT_FAMILY, TOKENIZER_CONFIG


class _Layout(NamedTuple):
    """A class of transformers' pairs."""

    model: str
    kind: str
    """Its model_type."""
    image: tuple[Rule, ...]
    text: tuple[Rule, ...]
    processor: str
    """Of images that are resized, and not cut."""


# By how the image tower pools.
_LAYOUTS: Mapping[str, _Layout] = {
    "cls": _Layout("CLIPModel", "clip", names.CLIP, names.CLIP_TEXT, "ViTImageProcessor"),
    "map": _Layout(
        *("SiglipModel", "siglip", names.SIGLIP, names.SIGLIP_TEXT, "SiglipImageProcessor")
    ),
}
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
}
# What CLIPModel takes for the largest id.
_LARGEST_ID = 2
# Beside a vocabulary, what transformers reads of it.
_BESIDE_VOCABULARY = ("special_tokens_map.json", "added_tokens.json")


def obstacle(network: PairNetwork) -> str | None:
    """What keeps a pair out of both layouts; None if one holds it."""
    config = network.config
    layout = _LAYOUTS.get(config.image.head)
    if layout is None:
        found = (
            "transformers' CLIPModel pools images by a class token and its SiglipModel by a MAP "
            f"head, neither by head={config.image.head!r}"
        )
    else:
        foreign = _foreign_to_clip if layout.kind == "clip" else _foreign_to_siglip
        choices = ", ".join([*_foreign_image(config.image, layout), *foreign(config)])
        if not choices:
            return None
        found = (
            f"transformers' {layout.model}, whose images are pooled by "
            f"head={config.image.head!r}, is without {choices}"
        )
    return f"{found}; --tower=image and --tower=text export the towers one by one"


def _foreign_image(image: ViTConfig, layout: _Layout) -> Iterator[str]:
    held = {"norm_epsilon", "activation", "pre_norm"}
    yield from (f"image.{choice}" for choice in foreign_choices(image, held))
    if image.pre_norm != (layout.kind == "clip"):
        yield f"image.pre_norm={image.pre_norm}"
    if image.num_classes:
        yield f"image.num_classes={image.num_classes}"
    height, width, _ = image.image_shape
    if height != width:
        yield f"image.image_size={(height, width)}"


def _foreign_to_clip(config: PairConfig) -> Iterator[str]:
    text = config.text
    if not text.causal:
        yield "text.causal=False"
    if text.pool not in ("eos", "argmax"):
        yield f"text.pool={text.pool!r} (it has eos and argmax)"
    if text.pool == "eos" and text.eos_id == _LARGEST_ID:
        yield f"text.eos_id={_LARGEST_ID} (by which it means the largest id)"
    if text.embed_dim and text.head_bias:
        yield "text.head_bias=True"
    if config.embed_dim and config.projection_bias:
        yield "projection_bias=True"
    if config.bias:
        yield "bias=True"


def _foreign_to_siglip(config: PairConfig) -> Iterator[str]:
    if config.text.causal:
        yield "text.causal=True"
    if config.text.pool != "last":
        yield f"text.pool={config.text.pool!r} (it has last)"
    if config.embed_dim:
        yield f"embed_dim={config.embed_dim} (it projects no images)"


def write(model: PairExportable, directory: Path) -> Artefact:
    """Writes model.safetensors, config.json, preprocessor_config.json and the vocabulary."""
    layout = _LAYOUTS[model.network.config.image.head]
    directory.mkdir()
    save(tensors(model), directory)
    write_json(directory / "config.json", _config(model, layout))
    write_json(
        directory / "preprocessor_config.json",
        processor_config(model.network, model.view, layout.processor),
    )
    _write_tokenizer(model.tokenizer, directory)
    return Artefact("Hugging Face", "hf_pair", directory, exact=model.dtype == "float32")


def tensors(model: PairExportable) -> dict[str, np.ndarray]:
    """The parameters by their names there.

    What a layout has and a pair has not does nothing: norms and projections of queries, keys and
    values without bias get zeros, similarities too; an embedding that is not projected is, by the
    identity.
    """
    config, params = model.network.config, model.host_params
    layout = _LAYOUTS[config.image.head]
    image = with_qkv_bias(parameters(params["image"], config.image))
    text = parameters(params["text"], config.text)
    joint = parameters({k: v for k, v in params.items() if k not in ("image", "text")}, None)
    if layout.kind == "clip":
        _complete_clip(image, text, joint, config)
    else:
        _complete_siglip(text, joint, config.text)
    return {
        **_inside("vision_model", write_tensors(layout.image, image, config.image.depth)),
        **_inside("text_model", write_tensors(layout.text, text, config.text.depth)),
        **joint_tensors(joint, scalar=layout.kind == "clip"),
    }


def joint_tensors(joint: dict[str, np.ndarray], *, scalar: bool) -> dict[str, np.ndarray]:
    """What a pair has beside its towers; the scale is a scalar or a vector of one."""
    found = write_tensors(names.JOINT, joint, 0)
    if scalar:
        found["logit_scale"] = found["logit_scale"].reshape(())
    return found


def _inside(tower: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name if name.startswith("text_projection") else f"{tower}.{name}": tensor
        for name, tensor in found.items()
    }


def _complete_clip(
    image: dict[str, np.ndarray],
    text: dict[str, np.ndarray],
    joint: dict[str, np.ndarray],
    config: PairConfig,
) -> None:
    # The class token has a position there, and none here.
    image[PREFIX_POSITIONS] = np.zeros_like(image["class_token"])
    # Patches have a position there and no bias, which is the same to all of them.
    bias = image.pop("patch_embed/linear/bias")
    if bias.any():
        image["position/table"] = image["position/table"] + bias
    dtype = image["class_token"].dtype
    joint.setdefault("image_projection/kernel", np.eye(config.image.width, dtype=dtype))
    text.setdefault("head/kernel", np.eye(config.text.width, dtype=dtype))


def _complete_siglip(
    text: dict[str, np.ndarray], joint: dict[str, np.ndarray], config: TextConfig
) -> None:
    dtype = text["token_embedding"].dtype
    text.setdefault("head/kernel", np.eye(config.width, dtype=dtype))
    text.setdefault("head/bias", np.zeros(config.embedding_width, dtype))
    joint.setdefault("bias", np.zeros((), dtype))


def _config(model: PairExportable, layout: _Layout) -> dict[str, Any]:
    config = model.network.config
    image, text = config.image, config.text
    width = config.embedding_width
    side, _ = fed_size(model.network, model.view)
    vision = {
        **_transformer(image),
        "model_type": f"{layout.kind}_vision_model",
        "image_size": side,
        "patch_size": image.patch_size,
        "num_channels": image.channels,
    }
    about = model.tokenizer.about
    texts = {
        **_transformer(text),
        "model_type": f"{layout.kind}_text_model",
        "vocab_size": text.vocab,
        "max_position_embeddings": text.length,
        "bos_token_id": next(iter(about["begin"]), None),
        "eos_token_id": about["end"],
        "pad_token_id": about["padding"],
    }
    if layout.kind == "clip":
        eos = _LARGEST_ID if text.pool == "argmax" else text.eos_id
        texts |= {"eos_token_id": eos, "projection_dim": width}
        whole = {"projection_dim": width}
        vision |= whole
    else:
        texts |= {"projection_size": width}
        whole = {}
        vision |= {"vision_use_head": True}
    return {
        "architectures": [layout.model],
        "model_type": layout.kind,
        "dtype": model.dtype,
        "vision_config": vision,
        "text_config": texts,
        **whole,
    }


def _transformer(config: ViTConfig | TextConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": _ACTIVATIONS[config.activation],
        "layer_norm_eps": config.norm_epsilon,
        "attention_dropout": 0.0,
    }


def _write_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """The vocabulary, and what says of which family it is to whoever reads the directory."""
    copy_vocabulary(tokenizer, directory)
    beside = tokenizer.files[0].parent
    for name in _BESIDE_VOCABULARY:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, directory / name)
    file = beside / TOKENIZER_CONFIG
    content = read_json(file) if file.is_file() else {}
    if "tokenizer_class" not in content:
        clip = tokenizer.family == "clip"
        content |= {
            "tokenizer_class": "CLIPTokenizer" if clip else "PreTrainedTokenizerFast",
            "eos_token": tokenizer.token(tokenizer.eos_id),
            "pad_token": tokenizer.token(tokenizer.pad_id),
            "padding_side": "right",
            "model_max_length": tokenizer.length,
        }
    write_json(directory / TOKENIZER_CONFIG, content | {TEXT_FAMILY: tokenizer.family})
