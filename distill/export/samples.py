"""What exports are compared on: images of a run's own data, and texts that stand for classes."""

import dataclasses

import numpy as np

from distill.analysis.human.datasets import CATEGORIES
from distill.data import DataConfig, Source, Subset
from distill.data.classes import Names, among, numbered
from distill.data.examples import readable_views
from distill.data.prompts import prompts
from distill.data.reading_ahead import read_ahead
from distill.data.tokens import Tokenizer
from distill.data.views import resize_box
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.evaluation_view import Filter
from distill.export.dense_verify import DenseSamples
from distill.export.pairs import TEXTS
from distill.export.verify import Samples
from distill.nn import ViTConfig
from distill.nn.dense import HeadedNetwork
from distill.parallel.printed import say


def data_of(compared_on: SplitConfig, data: DataConfig) -> DataConfig:
    """Data whose evaluation split is the one to compare on.

    Args:
      compared_on: which images; whatever it leaves out is the model's own.
      data: of the model's run.

    Raises:
      UserError: if no split of another source is named, and the run has none of a name to take.
    """
    split = compared_on.split or data.test_split or data.validation_split
    if compared_on.source and split is None:
        raise UserError(
            f"nothing says which split of {compared_on.source} to compare on, and the run has none "
            "whose name it could take; give --split"
        )
    return dataclasses.replace(compared_on.read_from(data), test_split=split)


def open_samples(
    data: DataConfig, config: ViTConfig, most: int, names: Names
) -> tuple[Names, Samples]:
    """Class names, and images of the evaluation split, or else of the training images.

    Args:
      data: of the run, or what `data_of` makes of it.
      config: of the model.
      most: how many images.
      names: of the model's classes; empty where nothing says them.
    """
    split = data.test_split or data.validation_split
    if split is None:
        source = data.open_training(channels=config.channels)
        split, name = None, data.training_source
    else:
        # Without classes, nothing is asked of labels.
        labelled = config.num_classes > 0
        source = data.open_evaluation(split, channels=config.channels, labelled=labelled)
        name = data.evaluation_source
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
        {"images": np.stack([example["image"] for example in examples])},
        labels if labels is not None and (labels >= 0).all() else None,
        f"{len(examples):,} images of {name}, split {split or data.train_split}",
    )
    return names, samples


def dense_samples(data: DataConfig, network: HeadedNetwork, by: Filter, most: int) -> DenseSamples:
    """Images of the evaluation split, or else of the training images, each at its own size.

    Args:
      data: of the run, or what `data_of` makes of it.
      network: the head on its tower.
      by: the filter that images are resized by, where the head's view says that they are.
      most: how many images.

    Raises:
      UserError: if none can be decoded.
    """
    config, split = network.config, data.test_split or data.validation_split
    if split is None:
        source, name = data.open_training(channels=config.channels), data.training_source
    else:
        source = data.open_evaluation(split, channels=config.channels, labelled=False)
        name = data.evaluation_source
    spread = np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)
    found = []
    for _, example in read_ahead(source, spread, max_corrupt_share=1.0, threads=data.threads):
        pixels = np.asarray(example["image"])
        height, width = pixels.shape[:2]
        if config.view.short_side is not None:
            patch = network.tower.patch_size
            size = config.view.resized((height, width), config.image_shape[0], patch)
            pixels = resize_box(pixels, (0, 0, width, height), size, by)
        found.append(pixels)
    if not found:
        raise UserError(f"no image of {name} can be decoded")
    return DenseSamples(
        found, f"{len(found):,} images of {name}, split {split or data.train_split}"
    )


def text_samples(tokenizer: Tokenizer, vocab: int) -> Samples:
    """Texts of class names in the templates that are shipped, one that is empty and one too long.

    Args:
      tokenizer: of the text tower.
      vocab: rows of its token table.

    Raises:
      UserError: if the tokenizer is that of another text tower.
    """
    texts = [*prompts(CATEGORIES), "", " ".join(CATEGORIES * tokenizer.length)]
    ids = tokenizer.within(vocab, texts)
    return Samples({"ids": ids}, name=f"{len(texts)} texts of {len(CATEGORIES)} class names")


def pair_samples(images: Samples, texts: Samples) -> Samples:
    """Each image with as many texts as an export is checked with."""
    ids = texts.inputs["ids"]
    inputs = {**images.inputs, "ids": np.resize(ids, (len(images), TEXTS, ids.shape[1]))}
    return Samples(inputs, name=f"{images.name}, each with {TEXTS} of {texts.name}")


def _labels(
    source: Source, names: Names, count: int, name: str, in_order: bool
) -> tuple[np.ndarray | None, Names]:
    """The images' labels as a model numbers them, if it does, and the names of its classes."""
    if count and not names and len(source.class_names) == count:
        say(
            "warning: nothing says what the model calls its classes; they are taken to be those of "
            f"{name}"
        )
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
