"""Yes or no by a linear head on frozen features, where a model has no output for it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distill.analysis.celeba import PARTITION
from distill.analysis.linear import LinearClassifier, row_blocks
from distill.analysis.predictions import Predictions
from distill.analysis.tables import Table
from distill.errors import UserError
from distill.evaluate.evaluation import describe_images
from distill.evaluate.features import FeatureExtractor, Features, split_loader
from distill.evaluate.images import open_any
from distill.evaluate.of_images import Shown
from distill.evaluate.predicted import joined_columns, known_of
from distill.evaluate.probe import fit_probe, held_out_count
from distill.nn import Params
from distill.subject import Subject

TRAIN = "train"
"""The partition that a head is fitted to."""


class HeadPredictor:
    """Predicts a column of yes and no by a head that is fitted anew in each call.

    The head is the linear probe of `distill.evaluate.probe`, fitted to the images of the partition
    `TRAIN` alone; a tenth of these chooses its penalty.

    Args:
      subject: the model; it needs no classes.
      parts: images, and how they are shown, by partition, those to measure first; images of one
        part without a name are of the partitions that `known` says.
      target: the column.
      known: adds what else is known to a table of the images.

    Raises:
      UserError: if images or splits are missing, or those to fit to are among the others.
    """

    def __init__(
        self,
        subject: Subject,
        parts: Mapping[str, Shown],
        target: str,
        known: Callable[[Table], Table],
    ):
        self._subject, self._parts = subject, parts
        self._target, self._known = target, known
        opened = {part: open_any(subject, one.data, one.split) for part, one in parts.items()}
        self._images = {part: images for part, (images, _) in opened.items()}
        self.remarks = tuple(
            f"{part}: {remark}" if part else remark
            for part, (_, remarks) in opened.items()
            for remark in remarks
        )
        self._extract = FeatureExtractor(subject.network)
        fingerprints = [images.fingerprint for images in self._images.values()]
        if len(set(fingerprints)) < len(fingerprints):
            raise UserError(
                "the images to fit to and those to measure are the same; expected splits that "
                f"differ, not {', '.join(one.split for one in parts.values())}"
            )

    def predictions(self, params: Params) -> Predictions:
        """Of all images but those that the head was fitted to; `about` has `head`, what it is.

        All processes must call it, and all get the same. Labels are those of the column.

        Raises:
          RunFailed: if a feature is not finite, or too many images are corrupt.
          UserError: if an image has no yes or no, or those to fit to have one of them alone.
        """
        features, columns = self._described(params)
        lines = np.arange(1, len(features) + 1)
        table = self._known(Table(source="the images", columns=columns, lines=lines))
        yes, training = table.binary(self._target), table.texts(PARTITION) == TRAIN
        count, positives = int(training.sum()), int(yes[training].sum())
        if not 0 < positives < count:
            raise UserError(
                f"a head for {self._target} cannot be fitted to {count:,} images, {positives:,} of "
                "which have it; expected some of both"
            )
        probe = fit_probe(
            features[training], yes[training].astype(np.int32), 2, mesh=self._subject.mesh
        )
        names = columns.pop("name")
        return Predictions(
            scores=_scores(probe.classifier, features[~training]),
            class_names=(f"not {self._target}", self._target),
            labels=yes[~training].astype(np.int64),
            names=names[~training],
            columns={name: column[~training] for name, column in columns.items()},
            about=self.about()
            | {
                "head": {
                    "target": self._target,
                    "images": count,
                    "positives": positives,
                    "l2": probe.l2,
                    "held_out": held_out_count(count),
                }
            },
        )

    def _described(self, params: Params) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Features of all images, float32 [N, D], and what their source says of them."""
        features, said = [], []
        for part, images in self._images.items():
            found = self._features(params, part)
            columns = known_of(images, found.index)
            if part:
                columns[PARTITION] = np.full(len(found.index), part)
            features.append(found.embedding)
            said.append(columns)
        return np.concatenate(features), joined_columns(said)

    def _features(self, params: Params, part: str) -> Features:
        subject, shown = self._subject, self._parts[part]
        loader = split_loader(
            self._images[part],
            shown.data,
            subject.mesh,
            size=max(subject.network.config.image_shape[:2]),
            batch_size=subject.batch_size,
            view=shown.view,
        )
        return self._extract(params, loader)

    def about(self) -> dict[str, Any]:
        """The images, those that the head is fitted to, and how they are shown."""
        described = {
            part: describe_images(images, one.data.evaluation_source, one.split)
            for (part, images), one in zip(self._images.items(), self._parts.values(), strict=True)
        }
        view = next(iter(self._parts.values())).view
        return {
            "data": [one for part, one in described.items() if part != TRAIN],
            "learnt_from": [described.get(TRAIN) or next(iter(described.values()))],
            "view": dataclasses.asdict(view),
            "among": None,
        }


def _scores(classifier: LinearClassifier, features: np.ndarray) -> np.ndarray:
    """float64 [N, 2], of a block of rows at a time."""
    blocks = [classifier.scores(features[rows]) for rows in row_blocks(len(features))]
    return np.concatenate([np.empty((0, 2)), *blocks])
