"""Whether images are all of a set, and which set they are of."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from distill.analysis.label_spaces.data_files import imagenet_numbers
from distill.analysis.label_spaces.label_space import (
    LabelSpace,
    folders,
    known_label_spaces,
    wnid_folder,
)
from distill.analysis.predictions import Predictions


def remarks_on(
    space: LabelSpace, names: np.ndarray, accepted: Sequence[Sequence[int]]
) -> list[str]:
    """What is missing of a set, or there twice.

    Args:
      space: the set.
      names: of the images that count, str [n].
      accepted: the numbers of the classes that each may be taken for.
    """
    remarks = []
    if len(space.class_names) == 1:
        remarks.append(
            f"warning: {space.name} has one class only, {space.class_names[0]!r}: nothing to tell "
            "apart"
        )
    if space.images is not None and len(names) != space.images:
        amount = "less" if len(names) < space.images else "more"
        remarks.append(
            f"warning: {len(names):,} images, {amount} than the {space.images:,} that are "
            f"published as {space.name}; figures of others do not compare"
        )
    distinct = len({*names.tolist()})
    if distinct < len(names):
        remarks.append(f"warning: images that are there more than once: {len(names) - distinct:,}")
    times = Counter(place for classes in accepted for place in classes)
    counts = [times[place] for place in range(len(space.class_names))]
    missing = [name for name, n in zip(space.class_names, counts, strict=True) if not n]
    if missing:
        remarks.append(
            f"warning: classes without an image: {len(missing):,} of {len(counts):,}, "
            f"{_some(missing)}"
        )
    if space.per_class is not None:
        partial = [
            f"{name} {n}"
            for name, n in zip(space.class_names, counts, strict=True)
            if 0 < n < space.per_class
        ]
        if partial:
            remarks.append(
                f"warning: classes of fewer than {space.per_class} images: {len(partial):,} of "
                f"{len(counts):,}, {_some(partial)}"
            )
    return remarks


def remarks_on_undeclared(predictions: Predictions) -> list[str]:
    """What is to be said of figures in which all classes of a model of ImageNet's compete.

    Such a model may say any of 1,000 classes or more; beside figures of a set of fewer its own are
    low. Where labels are the ranks of the folders that are there, it is right on 0.1 %.

    Args:
      predictions: of images of which nobody has said which set they are.
    """
    count = len(predictions.class_names)
    if count < len(imagenet_numbers()):
        return []
    names = predictions.names.tolist()
    found = {wnid_folder(name) for name in names} - {None}
    if found and found < imagenet_numbers().keys():
        fitting = sorted(
            (len(space.class_names), name)
            for name, space in known_label_spaces().items()
            if space.by_label and found <= {*space.class_names}
        )
        classes, best = fitting[0]
        are = "they are" if classes == len(found) else "they are among"
        return [
            f"warning: the images are of {len(found):,} of ImageNet's 1,000 classes, and all "
            f"{count:,} of the model's compete; kind=label_space says among which, such as "
            f"label_space={best} ({are} its {classes:,} classes)"
        ]
    nearest = np.array([next(iter(folders(name)), "") for name in names])
    labelled = predictions.labels >= 0
    said = np.array(predictions.class_names)[predictions.labels[labelled]]
    numbered = all(one.isascii() and one.isdecimal() for one in nearest.tolist())
    if numbered and (said != nearest[labelled]).any():
        return [
            f"warning: the images' folders are numbers, such as {nearest[0]}, which labels do "
            "not follow; kind=label_space reads them, such as label_space=imagenet_v2"
        ]
    return []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
