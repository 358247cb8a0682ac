"""The tokens of whole frames, at a size of their own."""

import jax
import numpy as np

from distill.data.views import resize_box
from distill.dense_view import DenseView
from distill.evaluate.dense_tokens import compiled_tokens
from distill.evaluation_view import Filter
from distill.nn import Params
from distill.parallel import batch_devices, batch_sharding, in_flight
from distill.subject import Subject

_Size = tuple[int, int]


class FrameTokens:
    """Computes the last layer's tokens of frames that are shown whole.

    Args:
      subject: the model, on a mesh.
      short_side: pixels that a frame's shorter side is made.
    """

    def __init__(self, subject: Subject, short_side: int):
        self._network, self._mesh = subject.network, subject.mesh
        self._filter: Filter = subject.view.filter
        self._batch_size = subject.batch_size
        self._view = DenseView(seen="whole", short_side=short_side)
        self.trained: _Size = tuple(subject.network.config.grid)
        """Rows and columns of patches that the model was made for."""

    def grid(self, size: _Size) -> _Size:
        """Rows and columns of patches of a frame of this size.

        Args:
          size: height and width in pixels.
        """
        patch = self._network.tower.patch_size
        height, width = self._view.resized(size, max(self._network.config.image_shape[:2]), patch)
        return height // patch, width // patch

    def __call__(self, params: Params, frames: np.ndarray) -> np.ndarray:
        """Maps frames of one size, uint8 [T, height, width, C], to float32 [T, rows, columns, D].

        All processes must call it with the same frames, and all get the same.
        """
        grid = self.grid(frames.shape[1:3])
        patch = self._network.tower.patch_size
        size = grid[0] * patch, grid[1] * patch
        at_once = self._at_once(grid)
        compute = compiled_tokens(self._network, self._view)

        def batches():
            for start in range(0, len(frames), at_once):
                some = frames[start : start + at_once]
                shown = [
                    resize_box(one, (0, 0, *one.shape[1::-1]), size, self._filter) for one in some
                ]
                # Of one shape, so that it is compiled once.
                shown += shown[-1:] * (at_once - len(some))
                yield compute(params, self._put(np.stack(shown)))

        found = [jax.device_get(tokens) for tokens in in_flight(batches())]
        return np.concatenate(found)[: len(frames)]

    def _at_once(self, grid: _Size) -> int:
        """Frames of a batch: attention takes about as much memory as that of the usual batch."""
        more = (grid[0] * grid[1] / (self.trained[0] * self.trained[1])) ** 2
        devices = batch_devices(self._mesh)
        return max(1, int(self._batch_size / max(more, 1.0) / devices)) * devices

    def _put(self, images: np.ndarray) -> jax.Array:
        """Cuts a batch, which every process has, over the mesh."""
        return jax.make_array_from_callback(
            images.shape, batch_sharding(self._mesh), lambda index: images[index]
        )
