"""Frozen tokens: what a model makes of the parts of images of any size."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from distill.analysis.windows import Window, cut_window, windows_of
from distill.data import DataConfig, Source
from distill.data.reading_ahead import read_ahead
from distill.data.spec import Example
from distill.data.views import resize_box
from distill.dense_view import DenseView
from distill.errors import UserError
from distill.evaluation_view import Filter
from distill.nn import Params, VisionNetwork
from distill.nn.dense import patch_tokens, tokens_taken
from distill.parallel import batch_devices, in_flight, local_rows, put_batch
from distill.parallel.compiling import jit_replicated

# Of an image as it is seen, and of patches that attend to each other.
_MOST_PIXELS, _MOST_PATCHES = 2**26, 2**14


class ImageTokens(NamedTuple):
    """Of one image."""

    index: int
    """Its place in the source."""
    example: Example
    """What the source has of it, at its own size."""
    size: tuple[int, int]
    """Height and width to which it was resized."""
    pixels: np.ndarray
    """Then, uint8 [height, width, C]."""
    windows: list[Window]
    """Where in the resized image."""
    tokens: list[np.ndarray]
    """Of each window that is computed, float32 [rows, columns, F]."""


class DenseTokens:
    """Computes tokens on the mesh the network is placed on.

    Args:
      network: placed on the mesh.
      view: how images are shown to it.
      data: how they are read.
      by: the filter that they are resized by.
      batch_size: windows at once, over all devices.

    Raises:
      UserError: if the model cannot be shown images so.
    """

    def __init__(
        self,
        network: VisionNetwork,
        view: DenseView,
        data: DataConfig,
        *,
        by: Filter,
        batch_size: int,
    ):
        config, tower = network.config, network.tower
        height, width = config.image_shape[:2]
        if height != width:
            raise UserError(
                f"the model sees images of {height}×{width} pixels, and windows are square; give "
                "weights of a square image_size"
            )
        try:
            view.check(height, tower.depth, tower.head == "cls")
        except ValueError as error:
            raise UserError(f"tokens: {error}") from error
        self.side, self.patch = height, tower.patch_size
        """Of a window and of a patch, in pixels."""
        self.view = view
        self.width = tokens_taken(network, view)[1]
        """F."""
        self._mesh, self._data, self._batch_size = network.mesh, data, batch_size
        self._depth = tower.depth
        self._by: Filter = by
        self._compute = compiled_tokens(network, view)

    def described(self) -> str:
        """How images are shown, and what stands for their parts, for people."""
        return self.view.described(self.side, self.patch, self._depth)

    def shown(self) -> dict[str, Any]:
        """The same as JSON can hold it, in pixels and numbers of layers."""
        view = self.view
        windows = view.seen == "windows"
        return {
            **dataclasses.asdict(view),
            "layers": list(view.layers or (self._depth,)),
            "stride": view.step(self.side, self.patch) if windows else None,
            "window": self.side if windows else None,
        }

    def __call__(
        self,
        params: Params,
        source: Source,
        indices: Iterable[int] | None = None,
        *,
        overlapping: bool,
    ) -> Iterator[ImageTokens]:
        """Image by image, in order, each when all of its windows are computed.

        Those that cannot be decoded are left out.

        All processes must go over it, and all get the same.

        Args:
          params: of the network.
          source: the images.
          indices: which of them; None takes all.
          overlapping: whether windows overlap as the view says, or lie side by side.

        Raises:
          RunFailed: if too many images are corrupt.
        """
        stride = self.view.step(self.side, self.patch) if overlapping else self.side
        images = self._images(source, range(len(source)) if indices is None else indices, stride)
        waiting: list[ImageTokens] = []
        for owners, computed in in_flight(self._dispatched(params, images)):
            for owner, tokens in zip(owners, np.asarray(jax.device_get(computed)), strict=False):
                if not owner.tokens:
                    waiting.append(owner)
                owner.tokens.append(tokens)
            while waiting and len(waiting[0].tokens) == len(waiting[0].windows):
                yield waiting.pop(0)

    def _images(self, source: Source, indices: Iterable[int], stride: int) -> Iterator[ImageTokens]:
        for index, example in read_ahead(
            source,
            indices,
            max_corrupt_share=self._data.max_corrupt_share,
            threads=self._data.threads,
        ):
            pixels = example.pop("image")
            height, width = pixels.shape[:2]
            size = self.view.resized((height, width), self.side, self.patch)
            self._check_size(size, source.describe(index))
            pixels = resize_box(pixels, (0, 0, width, height), size, self._by)
            if self.view.seen == "whole":
                windows = [Window(0, 0, *size)]
            else:
                windows = windows_of(size, self.side, stride)
            yield ImageTokens(index, example, size, pixels, windows, [])

    def _check_size(self, size: tuple[int, int], image: str) -> None:
        """Checks that an image, and all of its tokens, fit into memory.

        Raises:
          UserError: if it is too large.
        """
        height, width = size
        patches = height * width // self.patch**2
        whole = self.view.seen == "whole"
        if height * width > _MOST_PIXELS or (whole and patches > _MOST_PATCHES):
            most = f"{_MOST_PIXELS:,} pixels" + (f" and {_MOST_PATCHES:,} patches" * whole)
            raise UserError(
                f"{image} would be seen as {height:,}×{width:,} pixels, {patches:,} patches"
                f"{' at once' * whole}; expected at most {most}: give a smaller tokens.short_side"
                f"{', or tokens.seen=windows' * whole}"
            )

    def _dispatched(
        self, params: Params, images: Iterable[ImageTokens]
    ) -> Iterator[tuple[list[ImageTokens], jax.Array]]:
        """Batches of windows handed to the devices, and whose each row is."""
        windows = ((one, self._cut(one, window)) for one in images for window in one.windows)
        # Of whole images, hardly two have one size.
        whole = self.view.seen == "whole"
        size = batch_devices(self._mesh) if whole else self._batch_size
        rows = local_rows(self._mesh, size)
        for some in _batched(windows, 1 if whole else size):
            owners, pixels = zip(*some, strict=True)
            batch = np.zeros((size, *pixels[0].shape), np.uint8)
            batch[: len(pixels)] = pixels
            placed = put_batch(self._mesh, {"image": batch[np.array(rows)]}, size=size)
            yield list(owners), self._compute(params, placed["image"])

    def _cut(self, image: ImageTokens, window: Window) -> np.ndarray:
        if self.view.seen == "whole":
            return image.pixels
        return cut_window(image.pixels, window, self.side)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@functools.cache
def compiled_tokens(
    network: VisionNetwork, view: DenseView
) -> Callable[[Params, jax.Array], jax.Array]:
    """Makes tokens, float32 [B, rows, columns, F], of images in [0, 255]; compiled once a size."""

    @functools.partial(jit_replicated, mesh=network.mesh)
    def compute(params: Params, images: jax.Array) -> jax.Array:
        return patch_tokens(network, params, images, view)

    return compute
