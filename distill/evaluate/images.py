"""The images a model is evaluated on, numbered as its classes are."""

from typing import NamedTuple

from distill.data import DataConfig, Source, Splits
from distill.data.classes import among, calls, numbered, pairs, present
from distill.data.sources import abbreviate
from distill.errors import UserError
from distill.nn import PairNetwork
from distill.subject import Subject


class Images(NamedTuple):
    """Images, and what is to be said of them."""

    source: Source
    remarks: tuple[str, ...] = ()


def open_images(subject: Subject, data: DataConfig, split: str) -> Images:
    """Opens a split to evaluate on; one of the run's own that is open is not opened again.

    Raises:
      UserError: if there is no such source, split or class, or the model does not have its classes.
    """
    if subject.opened is not None and data == subject.data:
        held_out = {
            data.test_split: subject.opened.test,
            data.validation_split: subject.opened.validation,
        }
        if (images := held_out.get(split)) is not None:
            return Images(images)
    images = data.open_evaluation(split, channels=subject.network.config.channels)
    return _numbered(images, subject, data)


def open_any(subject: Subject, data: DataConfig, split: str) -> Images:
    """Opens a split whose images may have any classes, or none, in their own numbering.

    Raises:
      UserError: if there is no such source, split or class.
    """
    channels = subject.network.config.channels
    images = data.open_evaluation(split, channels=channels, labelled=False)
    return Images(images, (images.found,))


def open_run(subject: Subject) -> Splits:
    """The run's own images, those to train on among them.

    Raises:
      UserError: if they are not there, or the model does not have their classes.
    """
    if subject.opened is not None:
        return subject.opened
    splits = subject.data.open_splits(channels=subject.network.config.channels)
    names, in_order = subject.class_names, subject.data.in_order
    return splits.numbered(names, _whose(subject), in_order=in_order) if names else splits


def _numbered(images: Source, subject: Subject, data: DataConfig) -> Images:
    """The images with the model's numbers for their classes.

    Raises:
      UserError: if the model does not have their classes.
    """
    count, names = subject.network.config.num_classes, subject.class_names
    whose, shown = _whose(subject), data.evaluation_source
    if not count or (not names and count != len(images.class_names)):
        words = "--zeroshot_classes names classes by texts, "
        raise UserError(
            f"{whose} has {count or 'no'} classes, but {shown} has {len(images.class_names)}; "
            f"{words if isinstance(subject.network, PairNetwork) else ''}"
            "--fewshot, --knn and --probe, or an evaluation of kind transfer, ask for features "
            "alone"
        )
    if not names:
        return Images(
            images,
            (
                f"warning: nothing says what {whose} calls its {count} classes; they are taken to "
                f"be in the order of the data's, {abbreviate(images.class_names)}",
                images.found,
            ),
        )
    found = images.found
    images = numbered(images, names, shown=shown, whose=whose, in_order=data.in_order)
    remarks = []
    if called := calls(images):
        remarks.append(f"classes of {shown} are taken for the model's: {pairs(called)}")
    if len(present(images)) == 1:
        one = present(images)[0]
        remarks.append(f"warning: {shown} has one class only, {one!r}: nothing to tell apart")
    if some := among(images):
        remarks.append(
            f"{shown} has {len(some)} of the model's {count} classes: evaluated among those alone"
        )
    return Images(images, (*remarks, found))


def _whose(subject: Subject) -> str:
    return f"the model in {subject.place}"
