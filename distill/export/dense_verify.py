"""Exports of heads, run in their own runtime, beside what evaluations make of the same images."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from distill.analysis.resizing import resize_bilinear
from distill.analysis.windows import WindowMean, cut_window, windows_of
from distill.data.views import resize_box
from distill.export.dense import DenseExportable
from distill.export.model import Artefact, ExportMismatch
from distill.export.verify import AGREEMENT, Checked, run_artefact, size_of

_TIMED = (1,)


@dataclasses.dataclass(frozen=True)
class DenseSamples:
    """Images to compare on, each as large as it is."""

    images: Sequence[np.ndarray]
    """uint8 [height, width, C] each, resized as a head's view says."""
    name: str = "random pixels"
    """Where they are from."""


class DenseVerifier:
    """Compares exports of one head on the same images.

    Args:
      model: the head.
      samples: at least one image.
    """

    accuracy = None
    """Images have no class."""

    def __init__(self, model: DenseExportable, samples: DenseSamples):
        self._model = dataclasses.replace(model, dtype="float32")
        self._samples = samples

    def __call__(self, artefact: Artefact) -> Checked:
        """Runs an artefact, image by image and the first one in a batch of three, and compares.

        Raises:
          ExportMismatch: if its runtime cannot run it, or it differs by more than it may.
        """
        size = artefact.requires.get("image_size")
        images = self._samples.images if size is None else self._of_size(tuple(size))
        first = images[0]
        batches = [np.stack([first, first[::-1], first[:, ::-1]]), *(one[None] for one in images)]
        with tempfile.TemporaryDirectory(prefix="distill-export-") as directory:
            arrays = {f"{n}/images": batch for n, batch in enumerate(batches)}
            np.savez(Path(directory) / "inputs.npz", allow_pickle=False, **arrays)
            seconds = run_artefact(artefact, Path(directory), _TIMED)
            with np.load(Path(directory) / "outputs.npz", allow_pickle=False) as file:
                outputs = dict(file)
        found = [
            self._compare(artefact, image, {k: outputs.get(f"{n}/{k}") for k in self._names}, row)
            for n, batch in enumerate(batches)
            for row, image in enumerate(batch)
        ]
        agreement = float(np.mean([share for _, share in found]))
        if agreement < AGREEMENT:
            raise ExportMismatch(
                f"the {artefact.name} export agrees with JAX on {agreement:.2%} of the pixels of "
                f"{self._samples.name}; at least {AGREEMENT:.0%} is expected"
            )
        return Checked(
            name=artefact.name,
            bytes=size_of(artefact.path),
            difference=max(difference for difference, _ in found),
            agreement=agreement,
            accuracy=None,
            milliseconds={size: 1000 * second for size, second in seconds.items()},
        )

    def expected(self, image: np.ndarray) -> np.ndarray:
        """Scores or depths of an image, float32 [height, width, K], window by window.

        JAX computes on the CPU, as runtimes do; windows are cut and averaged as evaluations do it.

        Args:
          image: uint8 [height, width, C].

        Raises:
          ExportMismatch: if one is not finite, which no export could equal.
        """
        side, size = self._model.side, image.shape[:2]
        shown, shorter = image.astype(np.float32), min(size)
        if shorter < side:
            larger = [max(side, (2 * n * side + shorter) // (2 * shorter)) for n in size]
            shown = resize_bilinear(shown, (larger[0], larger[1]))
        mean = None
        for window in windows_of(shown.shape[:2], side, self._model.stride):
            found = self._patches(cut_window(shown, window, side)[None])[0]
            mean = mean or WindowMean.empty(shown.shape[:2], found.shape[-1])
            mean.add(window, found, side)
        assert mean is not None
        found = resize_bilinear(mean.mean(), size)
        if not np.isfinite(found).all():
            raise ExportMismatch(
                f"what the head says of an image of {self._samples.name} is not finite, which no "
                "export could equal; check the model"
            )
        return found

    @functools.cached_property
    def _patches(self) -> Callable[[np.ndarray], np.ndarray]:
        cpu, patches = jax.devices("cpu")[0], jax.jit(self._model.patches())
        params = jax.device_put(self._model.host_params, cpu)

        def of(windows: np.ndarray) -> np.ndarray:
            with jax.default_device(cpu), jax.default_matmul_precision("highest"):
                return np.asarray(patches(params, windows))

        return of

    @property
    def _names(self) -> tuple[str, ...]:
        return ("mask", "scores") if self._model.network.config.depth is None else ("depth",)

    def _of_size(self, size: tuple[int, int]) -> list[np.ndarray]:
        """The images resized to one size, of a format that takes no other."""
        return [
            resize_box(one, (0, 0, one.shape[1], one.shape[0]), size, "bilinear")
            for one in self._samples.images
        ]

    def _compare(
        self, artefact: Artefact, image: np.ndarray, found: dict[str, np.ndarray | None], row: int
    ) -> tuple[float, float]:
        """The largest difference, and the share of pixels of which both say the same."""
        main = self._names[-1]
        expected = self.expected(image)
        expected = expected if main == "scores" else expected[..., 0]
        got = {}
        for name, array in found.items():
            shape = expected.shape if name == main else expected.shape[:2]
            if array is None or array.shape[1:] != shape:
                what = "is missing" if array is None else f"has shape {array.shape[1:]}"
                raise ExportMismatch(
                    f"{name} of the {artefact.name} export {what}, expected {shape}"
                )
            got[name] = array[row]
        difference = float(np.max(np.abs(got[main] - expected)))
        allowed = self._model.tolerance(main)
        if artefact.exact and not difference <= allowed:
            raise ExportMismatch(
                f"{main} of the {artefact.name} export differs from JAX by {difference:.2e} on an "
                f"image of {' × '.join(map(str, image.shape[:2]))} pixels; allowed is {allowed:.2g}"
            )
        if not np.isfinite(difference):
            raise ExportMismatch(f"{main} of the {artefact.name} export is not finite")
        if main == "depth":
            return difference, float(np.mean(np.abs(got[main] - expected) <= 1e-2 * expected))
        return difference, float(np.mean(got["mask"] == expected.argmax(axis=-1)))
