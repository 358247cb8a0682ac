"""Images of a run's own data to compare its exports on."""

import numpy as np

from distill.data import DataConfig, Source, Subset
from distill.data.classes import Names, among, numbered
from distill.data.examples import readable_views
from distill.errors import UserError
from distill.export.verify import Samples
from distill.nn import ViTConfig
from distill.train.progress import say


def open_samples(
    data: DataConfig, config: ViTConfig, most: int, names: Names
) -> tuple[Names, Samples]:
    """Class names, and images of the evaluation split, or else of the training images.

    Args:
      data: of the run.
      config: of the model.
      most: how many images.
      names: of the model's classes; empty where the run did not record them.
    """
    split = data.test_split or data.validation_split
    if split is None:
        source, split, name = (
            data.open(data.train_split, channels=config.channels),
            None,
            data.source,
        )
    else:
        source, name = data.open_evaluation(split, channels=config.channels), data.evaluation_source
    labels, names = _labels(source, names, config.num_classes, name, data.in_order)
    spread = np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)
    chosen = Subset(source, spread)
    size = config.image_shape[0]
    examples = list(readable_views(chosen, data.view, size, most=len(chosen)))
    if not examples:
        raise UserError(f"no image of {name} can be decoded")
    if labels is not None:
        labels = labels[spread[[example["index"] for example in examples]]]
    samples = Samples(
        np.stack([example["image"] for example in examples]),
        labels if labels is not None and (labels >= 0).all() else None,
        f"{len(examples):,} images of {name}, split {split or data.train_split}",
    )
    return names, samples


def _labels(
    source: Source, names: Names, count: int, name: str, in_order: bool
) -> tuple[np.ndarray | None, Names]:
    """The images' labels as a model numbers them, if it does, and the names of its classes."""
    if count and not names and len(source.class_names) == count:
        say(f"warning: the run did not record its classes; they are taken to be those of {name}")
        names = source.class_names
    labels = None
    if names and source.class_names:
        try:
            shown = numbered(source, names, shown=name, whose="the model", in_order=in_order)
            labels = shown.labels if among(shown) is None else None
        except UserError as error:
            say(
                f"warning: the classes are called as in training, and no accuracy is given. {error}"
            )
    # A student may have been distilled without labels, from a teacher that names no classes.
    return labels, names or tuple(map(str, range(count)))
