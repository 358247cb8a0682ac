"""Images without a label among images to train on labels with.

TFDS gives such an image the label −1. As a target it would be no class at all, or the last.
"""

import numpy as np

from distill.data.examples import Batch
from distill.data.sources import CorruptImage, Source, TfdsSource
from distill.errors import RunFailed, UserError

# Of TFDS, whose labels are in its records, so many are read before a run.
_SAMPLE = 256


def check_labels(source: Source, purpose: str) -> None:
    """Checks, as far as that costs little, that every image has a label.

    Of TFDS 256 records are looked at, spread evenly; of other sources, all labels. What has any
    number of classes has a label.

    Args:
      source: the training images.
      purpose: what needs labels, for the error.

    Raises:
      UserError: naming the first image without.
    """
    if "classes" in source.spec:
        return
    if isinstance(source, TfdsSource):
        count = min(len(source), _SAMPLE)
        places = np.arange(count) * len(source) // count
        labels = np.array([_label(source, int(place)) for place in places])
    else:
        places, labels = np.arange(len(source)), source.labels
    without = places[labels < 0]
    if len(without):
        seen = f"{len(places):,} of its {len(source):,} images looked at"
        raise UserError(
            f"{purpose} learns from labels, but {source.describe(int(without[0]))} has none, as "
            f"have {len(without) - 1:,} others of {seen}. Name data, or a split, in which every "
            "image has a label, or choose its classes (config.data.classes)"
        )


def _label(source: Source, index: int) -> int:
    try:
        return source.read(index)["label"]
    except CorruptImage:
        # Nothing will be trained on it.
        return 0


def check_batch_labels(batch: Batch, source: Source) -> None:
    """Checks that every image of a host batch has a label, or says which classes it has.

    Raises:
      RunFailed: naming the first image without.
    """
    if "classes" in batch:
        return
    without = batch["index"][batch["label"] < 0]
    if len(without):
        raise RunFailed(
            f"{source.describe(int(without[0]))} has no label, and this run learns from labels. "
            "Name data, or a split, in which every image has a label, or choose its classes "
            "(config.data.classes)"
        )
