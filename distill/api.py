"""`import distill`: a student in a call, and finished models.

    import distill

    model = distill.distil("photos", teacher="weights/dinov2-base", budget="30m")
    print(model.predict("photos/new").table())
    model = distill.load("runs/student/export/onnx/1")

Nothing is set for the whole process: no cache, and handlers of signals only while a run trains.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.values import shown
from distill.errors import UserError
from distill.paths import local_path
from distill.serving.answers import Answers
from distill.serving.loading import load_model
from distill.serving.model import Model
from distill.serving.quiet import orbax_quiet

__all__ = ["Answers", "Model", "distil", "load"]

AnyPath = str | os.PathLike[str]


def distil(
    data: AnyPath,
    teacher: AnyPath | None = None,
    student: str | None = None,
    budget: str | None = None,
    out: AnyPath | None = None,
    config: Mapping[str, Any] | None = None,
) -> Model:
    """Distils a student, or pre-trains a model, as the command `distill auto` does.

    What is said on the way goes to standard error, a line at a time. The same call goes on where it
    was interrupted.

    Args:
      data: a folder of images, root/split/class/image, root/class/image or without classes, or a
        source such as `wds:PATH`.
      teacher: published weights, or the workdir of a run; None pre-trains.
      student: a variant such as `S/16`; None takes one that suits the teacher.
      budget: such as `30m`, `20epochs`, `50000images`; None takes 30 minutes, and at most 300
        epochs (200 without a teacher).
      out: directory of everything; None takes runs/DATA-from-TEACHER.
      config: keys of the run's config, `{"train.batch_size": 64}`, laid over what is chosen.

    Returns:
      The trained model, as `load` opens it.

    Raises:
      UserError: for whatever of it cannot be.
      Stopped: a `UserError`, after Ctrl-C or SIGTERM, once everything is saved.
    """
    _check_path("data", data)
    _check_path("teacher", teacher, optional=True)
    _check_path("out", out, optional=True)
    _check_text("student", student, "such as 'S/16'")
    _check_text("budget", budget, "such as '30m', '20epochs' or '50000images'")
    # Commands are made of much that other uses of this module need not load.
    from pipelines.auto import run

    with orbax_quiet():
        chosen = run(
            os.fspath(data),
            None if teacher is None else os.fspath(teacher),
            student,
            budget,
            None if out is None else Path(local_path(os.fspath(out), "out")),
            overrides={key: str(value) for key, value in (config or {}).items()},
        )
    return load(chosen.out)


def load(
    path: AnyPath,
    *,
    classes: Sequence[str] = (),
    best: bool = False,
    image_size: int | None = None,
) -> Model:
    """Opens a finished model: of a run, of published weights, or of an export.

    Args:
      path: a workdir; a file or directory of published weights; the directory of an export's
        version, in which the model runs in its own runtime.
      classes: texts that are the classes of a pair, such as CLIP.
      best: whether to take a run's best weights instead of its last.
      image_size: in pixels, of published weights; None takes what they are published for.

    Returns:
      A model with `predict`, `embed`, `evaluate` and `export`.

    Raises:
      UserError: if there is no model that is known.
    """
    _check_path("path", path)
    with orbax_quiet():
        return load_model(
            os.fspath(path), classes=classes, best=best, image_size=image_size, called="path"
        )


def _check_path(name: str, value: object, *, optional: bool = False) -> None:
    """Checks an argument that is a path.

    Raises:
      UserError: if it is none.
    """
    if isinstance(value, str | os.PathLike) or (optional and value is None):
        return
    if isinstance(value, Model):
        raise UserError(f"{name} is a model; give the path of one: {name}={str(value.place)!r}")
    raise UserError(f"{name} is {shown(value)}; expected a path, as a text or a pathlib.Path")


def _check_text(name: str, value: object, such_as: str) -> None:
    """Checks an argument that is a text or None.

    Raises:
      UserError: if it is neither.
    """
    if value is not None and not isinstance(value, str):
        raise UserError(f"{name} is {shown(value)}; expected a text {such_as}")
