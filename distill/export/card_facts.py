"""What a model card says of a model by its kind: of images, a text tower, or a pair."""

from collections.abc import Mapping
from typing import Any

from distill.export.dense import DenseExportable
from distill.export.images import ImageExportable
from distill.export.model import Exportable
from distill.export.pairs import PairExportable
from distill.export.texts import TextExportable
from distill.nn import TextConfig, ViTConfig

# These take normalised floats, and a file beside their weights says how; the others take pixels.
_TAKE_FLOATS = ("hf", "timm")


def kind_facts(model: Exportable, form: str) -> dict[str, Any]:
    """Shape, inputs and outputs, by what a card calls them.

    Args:
      model: the model.
      form: the format it is exported to.
    """
    if isinstance(model, TextExportable):
        return _of_texts(model.network.config, model.preprocessing)
    if isinstance(model, PairExportable):
        config, preprocessing = model.network.config, model.preprocessing
        return {
            **_of_images(model, config.image, form),
            **_of_texts(config.text, preprocessing["texts"]),
            "similarities": "scaled cosines"
            + (" and a bias: their sigmoid is a probability" if config.bias else ""),
        }
    if isinstance(model, DenseExportable):
        return _of_pixels(model, form)
    assert isinstance(model, ImageExportable)
    config = model.network.config
    joint = model.network.tower is not config and not config.num_classes
    unit = f", {config.embedding_width} values of length 1, for texts of the same pair"
    return {
        **_of_images(model, model.network.tower, form),
        "classes": config.num_classes or f"none: it returns an embedding{unit if joint else ''}",
    }


def _of_pixels(model: DenseExportable, form: str) -> dict[str, Any]:
    config, done, tower = model.network.config, model.preprocessing, model.network.tower
    resized = "as they are"
    if done["short_side"] is not None:
        resized = f"resized before, {done['filter']}, so that the shorter side is "
        resized += f"{done['short_side']} pixels"
    height, width = model.fixed_size
    size = f"{height}×{width} alone" if form == "onnx" else "of any size"
    normalised = f"(x/255 − mean)/std with mean {_values(done, 'mean')} and std "
    normalised += _values(done, "std")
    said: dict[str, Any] = {"classes": ", ".join(config.class_names)}
    if config.depth is not None:
        low, high = config.depth.limits
        said = {"depths": f"{low:g} to {high:g}, in the unit of the data"}
    return {
        "shape": f"{_transformer(tower)}, patches of {tower.patch_size}×{tower.patch_size}",
        "tokens": model.network.shown,
        "images": f"{size}, {config.channels} channel{'s' if config.channels > 1 else ''}",
        "preprocessing": f"{'grey' if done['mode'] == 'L' else 'RGB'}, {resized}; uint8, 0 to 255, "
        f"channels last. Inside the model: {normalised}",
        "windows": f"inside the model, of {done['window']} pixels every {done['stride']}; where "
        "they overlap, the mean. Images smaller than a window are enlarged to it and the answer "
        "made as large as they were",
        **said,
    }


def _of_images(
    model: ImageExportable | PairExportable, tower: ViTConfig, form: str
) -> dict[str, Any]:
    height, width, channels = tower.image_shape
    return {
        "shape": f"{_transformer(tower)}, patches of {tower.patch_size}×{tower.patch_size}, head "
        f"`{tower.head}`",
        "images": f"{height}×{width}, {channels} channel{'s' if channels > 1 else ''}",
        "preprocessing": _preprocessing(model, form),
    }


def _preprocessing(model: ImageExportable | PairExportable, form: str) -> str:
    done = model.preprocessing
    normalised = f"(x/255 − mean)/std with mean {_values(done, 'mean')} and std "
    normalised += _values(done, "std")
    return (
        f"{'grey' if done['mode'] == 'L' else 'RGB'}; {model.view.described(done['height'])}; "
        + (
            f"{normalised}; channels first"
            if form in _TAKE_FLOATS
            else f"uint8, 0 to 255, channels last. Inside the model: {normalised}"
        )
    )


def _of_texts(tower: TextConfig, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Of a text tower; the rule is that of `Tokenizer.about`."""
    begin = f"{rule['begin'][0]}, the mark of its beginning, " if rule["begin"] else ""
    return {
        "text tower": f"{_transformer(tower)}, {tower.vocab:,} tokens, pool `{tower.pool}`",
        "texts": f"{rule['cleaned']}; then {begin}its tokens and {rule['end']}, the mark of its "
        f"end. That is {rule['length']} in all: a longer text is cut before the last mark, a "
        f"shorter one padded on the right with {rule['padding']}. Of another length, or padded "
        "otherwise, embeddings are wrong; there is no mask",
        "vocabulary": f"{' and '.join(rule['vocabulary'])} beside this card (family "
        f"{rule['family']}, fingerprint `{rule['fingerprint']}`)",
        "embedding of a text": f"{tower.embedding_width} values of length 1",
    }


def _transformer(tower: ViTConfig | TextConfig) -> str:
    return f"width {tower.width}, depth {tower.depth}, MLP {tower.mlp_dim}, {tower.heads} heads"


def _values(done: Mapping[str, Any], name: str) -> str:
    return ", ".join(f"{value:.6g}" for value in done[name])
