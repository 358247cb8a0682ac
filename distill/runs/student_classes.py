"""How many classes a student has whose config does not say it."""

from collections.abc import Iterator, Mapping

from distill.data import Splits, Store
from distill.errors import UserError
from distill.runs.start import StartConfig
from distill.runs.teachers import TeacherConfig


def count_classes(
    splits: Splits,
    teachers: Mapping[str, TeacherConfig],
    start: StartConfig | None = None,
    store: Store | None = None,
) -> int:
    """The number of classes that there are for a student to tell apart.

    They are those of a classifier that is kept, of the images to train on, or where these have
    none, of a teacher, or of the images to evaluate on.

    Args:
      splits: the images.
      teachers: by name.
      start: the trained model that the student starts from.
      store: of what the teachers said, if they are not there.

    Raises:
      UserError: if nothing says how many.
    """
    count = next(filter(None, _counts(splits, teachers, start, store)), None)
    if count is None:
        raise UserError(
            "neither the data nor a teacher says how many classes the student has; give it "
            "--config.model.num_classes=N, or 0 for one without a classifier"
        )
    return count


def _counts(splits, teachers, start, store) -> Iterator[int]:
    if start is not None and start.classifier == "keep":
        yield start.describe().network.config.num_classes
    yield len((store.contents.about.get("classes") if store else None) or ())
    yield len(splits.train.class_names)
    for teacher in teachers.values():
        yield teacher.described(teacher.dtype).get("num_classes", 0)
    yield len(splits.class_names)
