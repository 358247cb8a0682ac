"""An evaluation as a config names it, and as it is run."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from distill.bounds import SomeSteps, check_fields
from distill.config.tagged import OneOf
from distill.data import Source
from distill.data.classes import among, calls, present, read_class_map
from distill.evaluate.evaluator import Batches, Evaluator
from distill.evaluation_view import EvaluationView
from distill.nn import Params
from distill.paths import IN_ORDER
from distill.subject import PerExample, Subject


class Evaluation(Protocol):
    """Measures parameters of one model on some images."""

    @property
    def missing(self) -> frozenset[str]:
        """Metrics of which the last call could say nothing, and which it left out."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of its images before it is called."""
        ...

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """The metrics by name; all processes must call it, and all get the same.

        Args:
          params: of the model.
          frozen: those of its teachers, by name.
        """
        ...

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str] | None:
        """The names of what a call may find; None where only what it measures says them.

        A `*` in a name stands for what only the images say, such as their groups.

        Args:
          params: of the model, or their shapes alone.
          frozen: those of its teachers, likewise.
        """
        ...

    def seen(self) -> list[str]:
        """What the last call was of, a line each."""
        ...

    def about(self) -> dict[str, Any]:
        """On what it measures, as JSON can hold it: images, view, classes."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(OneOf, tag="kind", found_in=("distill.evaluate",)):
    """What to measure, and on which images; each kind is a file of `distill.evaluate`.

    Raises:
      ValueError: for values out of bounds.
    """

    every: SomeSteps | None = None
    """Steps between evaluations while training; None evaluates every train.eval_every."""

    needs_teachers: ClassVar[bool] = True
    """Whether it compares with the model's teachers, whose parameters it gets as `frozen`."""

    needs_pair: ClassVar[bool] = False
    """Whether it compares images with texts, which takes both towers of a pair."""

    of_views: ClassVar[bool] = True
    """Whether the model sees of each image what its view says."""

    def __post_init__(self):
        check_fields(self)

    @property
    def names_data(self) -> bool:
        """Whether it says itself on which images, and takes none from the run."""
        return False

    @property
    def unnamed(self) -> str:
        """The key by which it would, where it does not."""
        return "source"

    @property
    def writes(self) -> bool:
        """Whether it is to write files, which an earlier evaluation's figures do not stand for."""
        return False

    def files(self) -> dict[str, str]:
        """Of each setting that names a file, 64 bits of a hash of what the file holds."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # As configs have paths; a name such as `real` may be that of a file here by chance.
            if isinstance(value, str) and os.path.isabs(value) and os.path.isfile(value):
                with open(value, "rb") as file:
                    found[field.name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return found

    def heads(self, name: str) -> tuple[str, ...]:
        """What the names of its metrics begin with, before the first `/`.

        Args:
          name: of the evaluation.
        """
        return (name,)

    def build(self, name: str, subject: Subject) -> Evaluation | None:
        """The evaluation of a model; None where the run has nothing of what it takes from it.

        Args:
          name: in the names of its metrics.
          subject: the model.

        Raises:
          UserError: if images, classes or splits are missing, or the model's are others.
        """
        raise NotImplementedError


class ImagesEvaluation(Evaluator):
    """A model's metrics over images, each as its view is.

    Args:
      name: prefix of the metrics.
      batches: goes over the images.
      per_example: measures a batch.
      images: numbered as the model's classes are.
      source: what they are called.
      split: of the source.
      view: how they are shown.
      class_map: how their classes were given the model's names; see `DataConfig`.
      remarks: what is to be said of them.
    """

    def __init__(
        self,
        name: str,
        batches: Batches,
        per_example: PerExample,
        *,
        images: Source,
        source: str,
        split: str,
        view: EvaluationView | Mapping[str, Any],
        class_map: str | None,
        remarks: tuple[str, ...] = (),
    ):
        super().__init__(name, batches, per_example)
        self.images, self.remarks = images, remarks
        self._source, self._split, self._view = source, split, view
        self._class_map = class_map

    def seen(self) -> list[str]:
        """How many images the last call has seen."""
        left_out = len(self.images) - self.counted
        note = f" ({left_out:,} that cannot be decoded left out)" if left_out else ""
        return [f"{self.counted:,} images of {self._source}{note}"]

    def about(self) -> dict[str, Any]:
        """The images with their fingerprint, how they are shown, and the classes that compete."""
        view = self._view
        return {
            "data": [describe_images(self.images, self._source, self._split)],
            "view": dict(view) if isinstance(view, Mapping) else dataclasses.asdict(view),
            "among": list(present(self.images)) if among(self.images) else None,
            "class_map": said_classes(self._class_map) or calls(self.images),
            "details": {"counts": self._shares()},
        }

    def _shares(self) -> dict[str, list[int]]:
        """Of what is a share of images: in how many of how many it was so, in the last call."""
        whole = len(self.name) + 1
        return {
            name[whole:]: [round(self.values[name] * count), count]
            for name, count in self.counts.items()
            if name.endswith("accuracy") and name in self.values
        }


def said_classes(class_map: str | None) -> dict[str, str]:
    """What a file says that classes are called; of `DataConfig.class_map`, nothing where none."""
    return {} if class_map in (None, IN_ORDER) else read_class_map(Path(class_map))


def describe_images(images: Source, source: str, split: str) -> dict[str, Any]:
    """Which images they are, as JSON can hold it."""
    return {
        "source": source,
        "split": split,
        "images": len(images),
        "fingerprint": images.fingerprint,
    }
