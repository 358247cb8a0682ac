"""What published weights are: a model of images, a text tower, or a pair of both."""

from pathlib import Path

import numpy as np

from distill.data.sources import abbreviate
from distill.errors import UserError
from distill.inspect.tables import facts, shape_text
from distill.runs.opened import describe_model
from distill.runs.weights import WeightsConfig
from teachers.pretrained import PublishedPair, PublishedText, open_pair, open_text, towers


def published(path: Path) -> tuple[str, ...]:
    """What a file of weights is and what it is fed, or why it cannot be read as published."""
    try:
        found = towers(path)
    except UserError as error:
        return (_unread("published model", error),)
    parts = [_image(path)] if "image" in found else []
    return (*parts, _text(path, pair="image" in found)) if "text" in found else tuple(parts)


def _image(path: Path) -> str:
    try:
        found = describe_model(WeightsConfig(path=str(path)))
    except UserError as error:
        return _unread("published model", error)
    network = found.network
    config, classes = network.config, abbreviate(found.class_names)
    return facts(
        {
            "published": getattr(found.published, "family", None),
            "parameters": f"{network.parameter_count():,}",
            "width": config.width,
            "depth": config.depth,
            "head": config.head,
            "images": shape_text(config.image_shape),
            "shown": found.view.described(max(config.image_shape[:2])),
            "mean": ", ".join(f"{value:.6g}" for value in config.mean),
            "std": ", ".join(f"{value:.6g}" for value in config.std),
            "classes": f"{config.num_classes}" + (f": {classes}" if classes else ""),
        }
    )


def _text(path: Path, *, pair: bool) -> str:
    try:
        found = open_pair(path) if pair else open_text(path)
        joint = _joint(found) if isinstance(found, PublishedPair) else {}
    except UserError as error:
        return _unread("pair" if pair else "text tower", error)
    text = found.text if isinstance(found, PublishedPair) else found
    return facts(_tower(text) | joint)


def _tower(text: PublishedText) -> dict[str, str]:
    network, config = text.network, text.network.config
    return {
        "text tower": text.family,
        "parameters": f"{network.parameter_count():,}",
        "width": str(config.width),
        "depth": str(config.depth),
        "pool": config.pool,
        "texts": f"{config.length} tokens of {config.vocab:,}",
        "embedding": str(config.embedding_width),
    }


def _joint(pair: PublishedPair) -> dict[str, str]:
    """What similarities are made with: the only parameters that are read here."""
    joint = pair.read_joint()
    bias = {"bias": f"{joint['bias']:.6g}"} if "bias" in joint else {}
    return {"scale": f"{np.exp(joint['temperature']):.6g}"} | bias


def _unread(what: str, error: UserError) -> str:
    return facts({f"no {what} that can be read": str(error).partition("\n")[0]})
