"""Parts of a source: some of its images, an even draw of them, or those of some classes."""

from collections.abc import Sequence

import numpy as np

from distill.data.sources import Source, Subset, abbreviate
from distill.data.spec import Example
from distill.errors import UserError, did_you_mean


class FewImages(Subset):
    """So many images of a source, always the same, in the order of the source.

    As many of each class as there can be: where a class has too few, the others make up for it,
    and what does not divide evenly goes to the first classes. Fewer images are among more.

    Args:
      source: where they are; images without a label are one class.
      count: how many.

    Raises:
      UserError: if the source has fewer.
    """

    def __init__(self, source: Source, count: int):
        if count > len(source):
            raise UserError(
                f"config.data.train_images is {count:,}, more than the {len(source):,} images to "
                "train on; ask for fewer, or none for all"
            )
        labels = source.labels
        order = np.random.default_rng(0).permutation(len(labels))
        # An image's turn is how many of its class come before it; within a turn, the classes are in
        # the order of their numbers.
        turns = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            members = order[labels[order] == label]
            turns[members] = np.arange(len(members))
        super().__init__(source, np.sort(np.lexsort((labels, turns))[:count]))


class ChosenClasses(Subset):
    """The images of some classes, in the order of the source, the classes numbered as given.

    Args:
      source: where they are.
      classes: names, each once.

    Raises:
      UserError: if the source does not have a class, or not one label for each image.
    """

    def __init__(self, source: Source, classes: Sequence[str]):
        if not source.class_names:
            raise UserError(
                f"classes {abbreviate(tuple(classes))} cannot be chosen: the images have no "
                "labels. Choose none, or name labelled data"
            )
        if "classes" in source.spec:
            raise UserError(
                f"classes {abbreviate(tuple(classes))} cannot be chosen: each image has several. "
                "Choose none, or name data whose images have one label each"
            )
        for name in classes:
            if name not in source.class_names:
                there = abbreviate(source.class_names)
                near = did_you_mean(name, source.class_names)
                raise UserError(f"no class {name!r} among {there}{near}")
        # The last entry is where labels of −1, which TFDS gives to images without one, end up.
        number = np.full(len(source.class_names) + 1, -1, np.int32)
        number[[source.class_names.index(name) for name in classes]] = np.arange(len(classes))
        labels = number[source.labels]
        super().__init__(source, np.flatnonzero(labels >= 0))
        self.class_names = tuple(classes)
        self.all_chosen = {*classes} == {*source.class_names}
        """Whether no class of the source was left out."""
        self._labels = labels[self._indices]

    @property
    def labels(self) -> np.ndarray:
        """Of these images, int32 [N], by place among the chosen classes."""
        return self._labels

    def read(self, index: int) -> Example:
        """Reads the example; the label is the place among the chosen classes."""
        return super().read(index) | {"label": self._labels[index]}
