"""What a model said of images, a row each, in memory and as a file."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from distill.errors import UserError

Scale = Literal["logits", "probabilities"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """A model's scores of N images in its C classes, and what is known of the images.

    Raises:
      UserError: if the parts are not of as many images or classes, scores are not finite, or what
        are called probabilities are none.
    """

    scores: np.ndarray
    """float32 or float64 [N, C]."""
    scale: Scale = "logits"
    """Whether probabilities are the softmax of the scores, or the scores themselves."""
    class_names: tuple[str, ...]
    """The model's, in the order of its scores; they need not be distinct."""
    labels: np.ndarray
    """int64 [N], numbers of the model's classes; −1 for an image that has none of them."""
    names: np.ndarray
    """str [N], the images' own, such as a path in their folder, `n01440764/one.JPEG`."""
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """What else is known of each image, such as a group it belongs to: arrays [N] by name."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Whose predictions they are, of which images, shown how; as JSON can hold it."""

    def __post_init__(self):
        if self.scores.ndim != 2 or self.scores.shape[1] != len(self.class_names):
            raise UserError(
                f"predictions hold scores of the shape {self.scores.shape} and "
                f"{len(self.class_names)} names of classes; expected [images, classes]"
            )
        for name, column in {"labels": self.labels, "names": self.names, **self.columns}.items():
            if column.shape != (len(self),):
                raise UserError(
                    f"predictions hold scores of the shape {self.scores.shape} and {name} of the "
                    f"shape {column.shape}"
                )
        self._check_values()

    def _check_values(self) -> None:
        broken = np.flatnonzero(~np.isfinite(self.scores).all(axis=1))
        if broken.size:
            first = self.names[broken[0]]
            raise UserError(
                f"not all scores are finite: in {broken.size} of {len(self)} images, the first "
                f"{first}"
            )
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= len(self.class_names)))
        if wrong.size:
            raise UserError(
                f"the label of {self.names[wrong[0]]} is {self.labels[wrong[0]]}; expected one of "
                f"{len(self.class_names)} classes, or -1 for none"
            )
        if self.scale == "probabilities":
            sums = self.scores.sum(axis=1, dtype=np.float64)
            odd = (self.scores < 0).any(axis=1) | (abs(sums - 1) > 1e-3)
            if odd.any():
                first = np.flatnonzero(odd)[0]
                raise UserError(
                    f"what is said of {self.names[first]} are no probabilities: they sum up to "
                    f"{sums[first]:.6g} and the least is {self.scores[first].min():.6g}"
                )

    def __len__(self) -> int:
        return self.scores.shape[0]

    def probabilities(self) -> np.ndarray:
        """float64 [N, C], each row summing up to one."""
        scores = self.scores.astype(np.float64)
        if self.scale == "logits":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def among(self, classes: Sequence[int]) -> Self:
        """Those of a model that had some of the classes alone, renumbered in the order given.

        Images of other classes have none.
        """
        chosen = np.asarray(classes, np.int64)
        # The last entry is where labels of −1 end up.
        number = np.full(len(self.class_names) + 1, -1, np.int64)
        number[chosen] = np.arange(len(chosen))
        scores = self.scores[:, chosen]
        if self.scale == "probabilities":
            scores = scores / scores.sum(axis=1, keepdims=True)
        return dataclasses.replace(
            self,
            scores=scores,
            class_names=tuple(self.class_names[one] for one in chosen),
            labels=number[self.labels],
        )

    def where(self, chosen: np.ndarray) -> Self:
        """Those of some images: bool [N], or their numbers."""
        return dataclasses.replace(
            self,
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            names=self.names[chosen],
            columns={name: column[chosen] for name, column in self.columns.items()},
        )
