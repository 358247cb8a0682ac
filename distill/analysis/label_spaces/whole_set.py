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
from distill.errors import UserError


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


def check_declared(names: Sequence[str]) -> None:
    """Checks that images whose set nobody has declared are of all of ImageNet's classes, or others.

    A model that may say any of 1,000 classes, or is thought to say the ranks of the folders that
    are there, is right on 0.1 % of a set of fewer.

    Raises:
      UserError: if their folders are some of ImageNet's classes, or their numbers.
    """
    found = {wnid_folder(name) for name in names} - {None}
    if found and found < imagenet_numbers().keys():
        fitting = sorted(
            (len(space.class_names), name)
            for name, space in known_label_spaces().items()
            if space.by_label and found <= {*space.class_names}
        )
        count, best = fitting[0]
        are = "they are" if count == len(found) else "they are among"
        raise UserError(
            f"the images are of {len(found):,} of ImageNet's 1,000 classes, so it has to be said "
            f"which classes compete: label_space={best} ({are} its {count:,} classes)"
            + ("" if count == 1000 else "; label_space=imagenet for all 1,000")
        )
    nearest = {next(iter(folders(name)), "") for name in names}
    if nearest and all(one.isascii() and one.isdecimal() for one in nearest):
        raise UserError(
            f"the images' folders are numbers, such as {min(nearest)}, whose order is not that of "
            "their names; say which set they are, such as label_space=imagenet_v2"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
