"""What Hugging Face's image processors do, as the files that describe them say.

What a file leaves out are the defaults of the class of processor it names; where it says null of
whether something is done, it is not.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

from distill.errors import UserError
from distill.evaluation_view import EvaluationView, Filter
from teachers.pretrained.normalisation import CLIP, HALF, IMAGENET
from teachers.pretrained.settings import Settings

FILES = ("processor_config.json", "preprocessor_config.json")

# Pillow's numbers for what `resample` says.
_FILTERS: dict[int, Filter] = dict(
    enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"))
)
assert set(_FILTERS.values()) == set(get_args(Filter))

_SQUARE = {"height": 224, "width": 224}
_CUT = dict(size={"shortest_edge": 224}, crop_size=_SQUARE, do_center_crop=True, resample=3)
# By class, without what follows in its name.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ViT": dict(size=_SQUARE, resample=2, **HALF),
    "DeiT": dict(
        size={"height": 256, "width": 256},
        crop_size=_SQUARE,
        do_center_crop=True,
        resample=3,
        **HALF,
    ),
    "CLIP": dict(_CUT, default_to_square=False, **CLIP),
    "Siglip": dict(size=_SQUARE, default_to_square=False, resample=3, **HALF),
    "Bit": dict(_CUT, default_to_square=False, **CLIP),
    "DINOv3ViT": dict(size=_SQUARE, resample=2, **IMAGENET),
}
_CLASS = re.compile(r"(\w+?)(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)")
_READ = {
    *("do_resize", "size", "default_to_square", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "do_pad"),
}
# Images are decoded to as many channels as the model takes; the others say how arrays are passed.
_WITHOUT_EFFECT = {
    *("do_convert_rgb", "data_format", "input_data_format", "return_tensors", "device"),
    *("disable_grouping", "image_seq_length", "pad_size", "processor_class", "auto_map"),
    *("image_processor_type", "feature_extractor_type", "_valid_processor_keys"),
    *("transformers_version", "processor_type"),
}


class Fed(NamedTuple):
    """What a processor makes of an image."""

    image_size: int | tuple[int, int] | None
    """In pixels; None where that is up to the image."""
    view: EvaluationView
    mean: tuple[float, ...]
    """Of pixel values in [0, 1], as `distill.nn.ViTConfig` has it."""
    std: tuple[float, ...]


def read_processor(weights: Path, kind: str) -> Fed | None:
    """What is done to images for the weights beside which a processor is described.

    Args:
      weights: the file, or the directory that holds it.
      kind: the class of processor where nothing names another, a key of `_DEFAULTS`.

    Returns:
      None where nothing is described.

    Raises:
      UserError: for what is not known, or cannot be done here.
    """
    settings = _find(weights)
    if settings is None:
        return None
    named = settings.text("image_processor_type") or settings.text("feature_extractor_type")
    if named:
        match = _CLASS.fullmatch(named)
        kind = match[1] if match else named
    if kind not in _DEFAULTS:
        raise UserError(
            f"{settings.about} is of {named}, which is not known; expected one of "
            f"{', '.join(f'{name}ImageProcessor' for name in _DEFAULTS)}"
        )
    _refuse_unknown(settings)
    # Where transformers finds null, it does not do it.
    undone = (key for key, value in settings.content.items() if value is None and key[:3] == "do_")
    settings = Settings(settings.content | dict.fromkeys(undone, False), settings.about)
    settings = settings.with_defaults(_renamed(_DEFAULTS[kind]))
    image_size, view = _geometry(settings)
    return Fed(image_size, view, *_normalisation(settings))


def _find(weights: Path) -> Settings | None:
    """As transformers looks: a processor of images inside another comes first."""
    nested, alone = (Settings.beside(weights, name) for name in FILES)
    if "image_processor" in nested:
        return nested.section("image_processor")
    return alone if alone.content else None


def _renamed(defaults: dict[str, Any]) -> dict[str, Any]:
    """As files have them."""
    lists = {f"image_{key}": list(defaults[key]) for key in ("mean", "std")}
    return {key: value for key, value in defaults.items() if key not in ("mean", "std")} | lists


def _refuse_unknown(settings: Settings) -> None:
    for key, value in settings.content.items():
        if key not in _READ | _WITHOUT_EFFECT and value not in (None, False, [], {}):
            raise UserError(
                f"{settings.about} has {key} = {value!r}, and what that does to images is not "
                "known; take it out if it does nothing"
            )
    if settings.boolean("do_pad", False):
        raise UserError(f"{settings.about} has do_pad = true; images cannot be padded here")


def _geometry(settings: Settings) -> tuple[int | tuple[int, int] | None, EvaluationView]:
    number = settings.integer("resample", 2)
    if number not in _FILTERS:
        raise UserError(
            f"{settings.about}: resample is {number}; expected "
            + ", ".join(f"{key} ({name})" for key, name in sorted(_FILTERS.items()))
        )
    cut = settings.size("crop_size") if settings.boolean("do_center_crop", False) else None
    if not settings.boolean("do_resize", True):
        if cut is not None:
            raise UserError(
                f"{settings.about} has do_center_crop without do_resize: what a model sees would "
                "depend on how large an image is; expected do_resize = true"
            )
        # Images of the model's own size, which stay what they are however they are resized.
        return None, EvaluationView(crop=1.0, resize="squash")
    shortest = settings.shortest_edge("size")
    resized = settings.size("size") if shortest is None else shortest
    size = resized if cut is None else cut
    crop = 1.0 if cut is None else _share(settings, cut, resized)
    return size, EvaluationView(
        crop=crop,
        resize="squash" if shortest is None else "shortest",
        filter=_FILTERS[number],
    )


def _share(settings: Settings, cut: Any, resized: Any) -> float:
    """Of the resized image's side that is cut out."""
    sides = {a / b for a, b in zip(_pair(cut), _pair(resized), strict=True)}
    if len(sides) > 1 or max(sides) > 1:
        raise UserError(
            f"{settings.about} cuts {_text(cut)} pixels out of {_text(resized)}; expected the same "
            "share of both sides, and no more than there is"
        )
    return sides.pop()


def _normalisation(settings: Settings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of x/255 that do what rescaling and normalising x do."""
    scale = 255.0
    if settings.boolean("do_rescale", True):
        scale *= settings.number("rescale_factor", 1 / 255)
    if scale <= 0:
        raise UserError(f"{settings.about}: rescale_factor must be positive, not {scale / 255}")
    mean, std = (0.0,), (1.0,)
    if settings.boolean("do_normalize", True):
        mean, std = settings.numbers("image_mean"), settings.numbers("image_std")
        # Every class of processor has defaults.
        assert mean is not None and std is not None
        if min(std) <= 0:
            raise UserError(f"{settings.about}: image_std must be positive, not {list(std)}")
    # 255/255 is to leave what a file says as it is.
    scale = 1.0 if abs(scale - 1) < 1e-9 else scale
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _text(size: int | tuple[int, int]) -> str:
    return "×".join(map(str, _pair(size)))
