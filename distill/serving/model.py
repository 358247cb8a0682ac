"""A finished model that is asked about images, whatever it runs in."""

import abc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import UserError
from distill.parallel.printed import say
from distill.serving.answers import Answers
from distill.serving.images import Images, Shown, View, list_images, read_views

BATCH = 32
"""Images that are computed at once, unless more is asked for."""


class Model(abc.ABC):
    """A finished model: a run's, published weights, or an export in its own runtime."""

    place: Path
    """Where it is."""
    class_names: tuple[str, ...]
    """In the order of its logits; empty where it has no classes."""
    shown: Shown
    """What of an image it is shown."""

    @abc.abstractmethod
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Computes one batch.

        Args:
          images: views, uint8 [B, size, size, C].

        Returns:
          `embedding` [B, D] and, of a model with classes, `logits` and `probabilities` [B, C],
          float32.
        """

    @abc.abstractmethod
    def evaluate(self, data: str | None = None, split: str | None = None) -> dict[str, float]:
        """Measures the model on images with labels.

        Args:
          data: a folder root/split/class/image or root/class/image, or a source such as
            `wds:PATH`; None takes the data of the run.
          split: of the data; None takes test, or validation, or all there is.

        Returns:
          Metrics by name, such as `data/accuracy`.

        Raises:
          UserError: if there are no such images, or no label can be right.
        """

    @abc.abstractmethod
    def export(
        self, format: str = "stablehlo", output: str | Path | None = None, data: str | None = None
    ) -> Path:
        """Exports the model, compared with JAX before it appears.

        Args:
          format: one of `distill.export.versions.FORMATS`.
          output: directory of the versions; None takes the workdir's `export`.
          data: of published weights, images to compare on.

        Returns:
          The version's directory.

        Raises:
          UserError: if the format does not take the model, or needs what is not installed.
          RunFailed: if the export differs from JAX.
        """

    def predict(self, images: Images, *, batch_size: int = BATCH) -> Answers:
        """What the model says of images.

        Files are decoded, resized and cropped as evaluations do it; so are arrays.

        Args:
          images: paths of images and folders, arrays uint8 [height, width, C] or [N, height,
            width, C], or several of them.
          batch_size: images that are computed at once.

        Returns:
          Names, embeddings and, of a model with classes, logits and probabilities. Files that
          cannot be decoded are left out of all of them, and counted.

        Raises:
          UserError: if a path is not there, or no image can be decoded.
        """
        return self._answers(images, batch_size)

    def embed(self, images: Images, *, batch_size: int = BATCH) -> np.ndarray:
        """The embeddings of images, float32 [N, D]; see `predict`."""
        return self._answers(images, batch_size).embedding

    def _answers(self, images: Images, batch_size: int) -> Answers:
        listed = list_images(images)
        if not listed:
            raise UserError(
                "there are no images; give paths of images or folders, or arrays uint8 "
                "[height, width, C]"
            )
        names, unreadable, parts = [], {}, []
        for batch in _batches(read_views(listed, self.shown), batch_size, unreadable):
            names += [view.name for view in batch]
            parts.append(
                self.run(np.stack([view.pixels for view in batch if view.pixels is not None]))
            )
        if not parts:
            raise _nothing_to_show(unreadable, len(listed))
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Answers(
            names=tuple(names),
            class_names=self.class_names,
            embedding=found["embedding"],
            logits=found.get("logits"),
            probabilities=found.get("probabilities"),
            unreadable=unreadable,
            about=self.about(),
        )

    def about(self) -> Mapping[str, Any]:
        """Whose answers they are, as JSON can hold it."""
        return {"model": str(self.place)}

    def __repr__(self) -> str:
        classes = f"{len(self.class_names)} classes" if self.class_names else "no classes"
        shown = self.shown.view.described(self.shown.size)
        return f"<{type(self).__name__} {self.place}: {classes}; it sees {shown}>"


def _nothing_to_show(unreadable: Mapping[str, str], count: int) -> UserError:
    name, why = next(iter(unreadable.items()))
    return UserError(f"none of {count} images can be decoded: {name}: {why}")


def _batches(views: Iterator[View], size: int, unreadable: dict[str, str]) -> Iterator[list[View]]:
    held: list[View] = []
    for view in views:
        if view.pixels is None:
            say(f"warning: left out {view.name}: {view.why}")
            unreadable[view.name] = view.why
            continue
        held.append(view)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
