"""What is predicted of pixels, as pictures: masks, depths and colours of tokens, model by model."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from distill.analysis.token_colours import carried, colours
from distill.evaluate.dense_pictures import read_map, read_picture
from distill.report import html

Lines = Mapping[str, Mapping[str, Any]]
"""Of an evaluation, by model."""

# Classes that a legend names.
_LISTED = 24
_CELL = 1.15
"""Side of a picture, in inches."""
# A colour that no class has.
_IGNORED = np.array([0.6, 0.6, 0.6])


def masks(lines: Lines, name: str) -> str:
    """The classes of pixels over examples, as they are and as each model has them."""
    said = "the classes of pixels, as labelled and as predicted; grey has no label"
    classes = next(iter(lines.values()))["details"]["class_names"] if lines else []
    legend = dict(zip(classes, _palette(len(classes)), strict=True))
    return _examples(lines, name, _mask_of, said, legend if len(classes) <= _LISTED else {})


def depths(lines: Lines, name: str) -> str:
    """The depths of pixels of examples, as they are and as each model has them."""
    said = "depths, each image's from nearest (dark) to farthest (light); grey is not known"
    return _examples(lines, name, _depth_of, said)


def worst_masks(lines: Lines, name: str) -> str:
    """The images of which each model's prediction is worst."""
    return _worst(lines, name, _mask_of, "mean IoU", 1)


def worst_depths(lines: Lines, name: str) -> str:
    """The images of which each model's prediction is worst."""
    return _worst(lines, name, _depth_of, "RMSE", -1)


def token_colours(lines: Lines, name: str) -> str:
    """The first model's principal components as colours, and what others' tokens say of them."""
    samples = _samples(lines)
    if not samples:
        return ""
    first = next(iter(samples))
    maps = {model: [read_map(one["components"]) for one in of] for model, of in samples.items()}
    shown, said = {first: colours(maps[first])}, []
    for model, of in maps.items():
        if model == first or _names(samples[model]) != _names(samples[first]):
            continue
        told, share = carried(maps[first], of)
        # In the first model's scale, or what is told weakly would look as strong.
        joined = colours([*(one[..., :3] for one in maps[first]), *told])
        shown[model] = joined[len(told) :]
        if share is not None:
            said.append(f"{model} {share:.2f}")
    pixels = [read_picture(one["pixels"]) for one in samples[first]]
    retained = f"; R² of what a linear map of its tokens says of them: {', '.join(said)}"
    return _table(
        [("image", pixels), *shown.items()],
        f"{name}: the three directions in which {first}'s tokens vary most, as red, green and blue"
        f"{retained if said else ''}",
    )


def _examples(
    lines: Lines,
    name: str,
    look: "Look",
    said: str,
    legend: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> str:
    samples = _samples(lines)
    if not samples:
        return ""
    first = next(iter(samples))
    columns = [
        ("image", [read_picture(one["pixels"]) for one in samples[first]]),
        ("truth", [look(lines[first], one, "truth") for one in samples[first]]),
    ]
    for model, of in samples.items():
        if _names(of) == _names(samples[first]):
            columns.append((model, [look(lines[model], one, "prediction") for one in of]))
    names = ", ".join(_names(samples[first]))
    return _table(columns, f"{name}: {said}. From the top: {names}", legend)


def _worst(lines: Lines, name: str, look: "Look", figure: str, sign: int) -> str:
    found = []
    for model, line in lines.items():
        some = line["details"].get("pictures", {}).get("worst", [])
        if not some:
            continue
        columns = [
            ("image", [read_picture(one["pixels"]) for one in some]),
            ("truth", [look(line, one, "truth") for one in some]),
            (model, [look(line, one, "prediction") for one in some]),
        ]
        scores = ", ".join(f"{one['image']} {sign * one['score']:.3f}" for one in some)
        found.append(_table(columns, f"{name}: worst of {model}, by their {figure}: {scores}"))
    return html.details("Images predicted worst", *found) if found else ""


def _samples(lines: Lines) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Examples by model, of those that have some."""
    found = {
        model: line["details"].get("pictures", {}).get("samples", [])
        for model, line in lines.items()
    }
    return {model: some for model, some in found.items() if some}


def _names(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    return [one["image"] for one in samples]


Look = Callable[[Mapping[str, Any], Mapping[str, Any], str], np.ndarray]
"""Of an evaluation's line, a picture of it and its key: RGB, float in [0, 1]."""


def _mask_of(line: Mapping[str, Any], picture: Mapping[str, Any], key: str) -> np.ndarray:
    mask, details = read_picture(picture[key]), line["details"]
    classes = len(details["class_names"])
    table = np.tile(_IGNORED, (256, 1))
    table[: min(classes, 256)] = _palette(min(classes, 256))
    painted = table[mask]
    if key == "truth":
        painted[mask == details["ignore"]] = _IGNORED
    grey = read_picture(picture["pixels"]).astype(np.float64) / 255
    grey = grey.mean(axis=-1) if grey.ndim == 3 else grey
    return 0.85 * painted + 0.15 * grey[..., None]


def _depth_of(line: Mapping[str, Any], picture: Mapping[str, Any], key: str) -> np.ndarray:
    del line
    place = read_picture(picture[key])
    painted = matplotlib.colormaps["viridis"]((place.astype(np.float64) - 1) / 254)[..., :3]
    painted[place == 0] = _IGNORED
    return painted


def _palette(classes: int) -> np.ndarray:
    """Colours that can be told apart, [classes, 3]; hues repeat, lighter and darker, past 12."""
    base = matplotlib.colormaps["Paired"](np.arange(classes) % 12)[:, :3]
    turn = (np.arange(classes) // 12)[:, None]
    return np.clip(base * (1 - 0.18 * (turn % 4)), 0, 1)


def _table(
    columns: Sequence[tuple[str, Sequence[np.ndarray]]],
    caption: str,
    legend: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> str:
    """Pictures in a row for each image and a column for each model."""
    down, across = len(columns[0][1]), len(columns)
    drawing = Figure(figsize=(_CELL * across + 0.1, _CELL * down + 0.4), layout="constrained")
    cells = np.asarray(drawing.subplots(down, across, squeeze=False))
    for column, (title, pictures) in enumerate(columns):
        cells[0, column].set_title(title, fontsize=8)
        for row, picture in enumerate(pictures):
            cells[row, column].imshow(picture, cmap="gray", interpolation="nearest")
            cells[row, column].set_axis_off()
    if legend:
        drawing.legend(
            [Patch(color=tuple(colour)) for colour in legend.values()],
            [*legend],
            loc="outside lower center",
            ncols=min(across + 1, len(legend)),
            frameon=False,
            fontsize=8,
        )
    return html.figure(drawing, caption)
