"""Pictures of what is predicted of pixels, small enough to be kept with the figures."""

import base64
import heapq
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from distill.analysis.resizing import resize_bilinear, resize_nearest
from distill.analysis.token_colours import Basis, principal_components
from distill.analysis.windows import WindowMean
from distill.evaluate.dense_tokens import ImageTokens

SIDE = 128
"""The longest of a picture, in pixels."""

# Of a map of components.
_GRID = 32


class Shown(NamedTuple):
    """An image with what is known and what is predicted of its pixels, as uint8."""

    name: str
    pixels: np.ndarray
    """[height, width, C]."""
    truth: np.ndarray
    """[h, w] of any size."""
    prediction: np.ndarray
    """[h, w]."""
    score: float
    """The higher the better; NaN where there is nothing to compare."""


class DensePictures:
    """Keeps some images as examples, and those that are predicted worst.

    Args:
      count: images of the source.
      kept: so many as examples, at equal distances, and as many of the worst.
      side: of the model's windows, in pixels.
    """

    def __init__(self, count: int, kept: int, side: int):
        kept = min(kept, count)
        self._samples = {n * count // kept for n in range(kept)}
        self._kept, self._side = kept, side
        self._shown: list[tuple[Shown, ImageTokens]] = []
        self._worst: list[tuple[float, int, Shown]] = []

    def wants(self, index: int, score: float) -> bool:
        """Whether an image is to be shown, by its place in the source and how it is predicted."""
        if index in self._samples:
            return True
        return self._is_among_worst(score)

    def show(self, image: ImageTokens, shown: Shown) -> None:
        """Takes an image in."""
        small = _small(shown)
        if image.index in self._samples:
            self._shown.append((small, image))
        if self._is_among_worst(shown.score):
            # The first is the best of the worst, and the one that goes.
            heapq.heappush(self._worst, (-shown.score, image.index, small))
            while len(self._worst) > self._kept:
                heapq.heappop(self._worst)

    def _is_among_worst(self, score: float) -> bool:
        if np.isnan(score) or not self._kept:
            return False
        return len(self._worst) < self._kept or -score > self._worst[0][0]

    def details(self) -> dict[str, Any]:
        """The pictures as JSON can hold them, with the principal components of tokens."""
        if not self._shown:
            return {}
        tokens = [
            one.reshape(-1, one.shape[-1]) for _, image in self._shown for one in image.tokens
        ]
        basis = principal_components(np.concatenate(tokens))
        worst = sorted(self._worst, key=lambda one: (-one[0], one[1]))
        return {
            "samples": [
                {**_described(one), "components": _encoded(self._map(image, basis))}
                for one, image in self._shown
            ],
            "worst": [{**_described(one), "score": one.score} for _, _, one in worst],
        }

    def _map(self, image: ImageTokens, basis: Basis) -> np.ndarray:
        """Components of a whole image, [rows, columns, K]."""
        if len(image.windows) == 1:
            return basis(image.tokens[0])
        mean = WindowMean.empty(image.size, basis.directions.shape[1])
        for window, tokens in zip(image.windows, image.tokens, strict=True):
            mean.add(window, basis(tokens), self._side)
        return resize_bilinear(mean.mean(), _within(image.size, _GRID))


def read_map(described: dict[str, Any]) -> np.ndarray:
    """The components of an image, float32 [rows, columns, K], as `DensePictures` describes them."""
    held = np.frombuffer(base64.b64decode(described["values"]), "<f2")
    return held.reshape(described["shape"]).astype(np.float32)


def read_picture(text: str) -> np.ndarray:
    """A picture, uint8 [height, width] or [height, width, 3]."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)


def _encoded(components: np.ndarray) -> dict[str, Any]:
    # Scaled, or what is large would be beyond float16.
    largest = np.abs(components).max()
    values = (components / (largest if largest > 0 else 1)).astype("<f2")
    return {"shape": values.shape, "values": base64.b64encode(values.tobytes()).decode()}


def _described(shown: Shown) -> dict[str, str]:
    return {
        "image": shown.name,
        "pixels": _picture(shown.pixels, "JPEG", quality=80),
        "truth": _picture(shown.truth, "PNG"),
        "prediction": _picture(shown.prediction, "PNG"),
    }


def _picture(array: np.ndarray, form: str, **options: Any) -> str:
    out = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1:] == (1,) else array).save(out, form, **options)
    return base64.b64encode(out.getvalue()).decode()


def _small(shown: Shown) -> Shown:
    height, width = size = _within(shown.pixels.shape[:2], SIDE)
    grey = shown.pixels.shape[-1] == 1
    pixels = Image.fromarray(shown.pixels[..., 0] if grey else shown.pixels)
    return shown._replace(
        pixels=np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR)),
        truth=resize_nearest(shown.truth, size),
        prediction=resize_nearest(shown.prediction, size),
    )


def _within(size: Iterable[int], side: int) -> tuple[int, int]:
    """A size of the same ratio whose longer side is no longer than `side`."""
    height, width = size
    longer = max(height, width, side)
    return max(height * side // longer, 1), max(width * side // longer, 1)
