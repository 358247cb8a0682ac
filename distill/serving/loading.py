"""A finished model by its path, whatever lies there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.auto.teacher import model_at
from distill.config import resolve
from distill.data import DataConfig
from distill.errors import UserError
from distill.export.versions import DESCRIPTION, FORMATS, check_undamaged
from distill.json_files import read_json
from distill.runs.weights import WeightsConfig
from distill.runs.zero_shot import ZeroShotConfig
from distill.serving.exported import ExportedModel
from distill.serving.model import Model
from distill.serving.opened import OpenedModel
from distill.train.workdir import read_config

# Whose files are those of weights, which are read as any other's.
_AS_WEIGHTS = ("hf", "timm")


def load_model(
    path: str,
    *,
    classes: Sequence[str] = (),
    zeroshot: ZeroShotConfig | None = None,
    tokenizer: str | None = None,
    best: bool = False,
    image_size: int | None = None,
    called: str = "MODEL",
) -> Model:
    """Opens the model at a path.

    Args:
      path: the workdir of a run, published weights, or an export: the directory of a version, that
        of a format's versions, of which the newest is taken, or a model's file.
      classes: texts that are the classes of a pair, published or of a run. None of a run that kept
        its teacher's words are those of its images.
      zeroshot: the same with more to choose, such as templates.
      tokenizer: vocabulary of a pair's text tower; None takes what lies beside its weights.
      best: whether to take a run's best weights instead of its last.
      image_size: in pixels, of published weights; None takes what they are published for.
      called: what the caller calls the path, for errors.

    Raises:
      UserError: if there is no model that is known.
      Damaged: if it is an export that is no longer what was written.
    """
    found = _version(Path(path).expanduser())
    if found is not None:
        check_undamaged(_folder(found))
        form = read_json(_folder(found) / DESCRIPTION)["format"]
        if form not in _AS_WEIGHTS:
            if classes or zeroshot:
                raise UserError("classes are said of a pair, and an export has its own")
            return ExportedModel(found.absolute())
        path = str(_folder(found))
    model = model_at(path, called)
    of_run = isinstance(model, Path)
    if of_run and image_size is not None:
        raise UserError("image_size is of published weights; a run's model has one already")
    if of_run and zeroshot is None and not classes:
        recorded = read_config(model)
        pair = (recorded.get("model") or {}).get("family") == "pair"
        classes = _classes_of(recorded["data"]) if pair else ()
    if classes and zeroshot is None:
        zeroshot = ZeroShotConfig(classes=tuple(classes))
    if of_run and zeroshot is None:
        return OpenedModel(model, best=best)
    weights = str(model) if of_run else model.path
    said: Any = dict(image_size=image_size, zeroshot=zeroshot, tokenizer=tokenizer)
    return OpenedModel(WeightsConfig(path=weights, **said))


def _classes_of(recorded: dict) -> tuple[str, ...]:
    """The classes of the images that a run was trained on, if they are still there."""
    data = resolve(DataConfig, recorded)
    try:
        return data.open_training(channels=3).class_names
    except UserError:
        return ()


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _version(path: Path) -> Path | None:
    """The export that a path names; None if it names none."""
    if (_folder(path) / DESCRIPTION).is_file():
        return path
    if not path.is_dir():
        return None
    versions = [one for one in path.iterdir() if one.name.isdigit()]
    versions = [one for one in versions if (one / DESCRIPTION).is_file()]
    if versions:
        return max(versions, key=lambda one: int(one.name))
    if formats := [form for form in FORMATS if _version_in(path / form)]:
        raise UserError(
            f"{path} holds exports of several formats; name one: "
            + ", ".join(str(path / form) for form in formats)
        )
    return None


def _version_in(path: Path) -> bool:
    return path.is_dir() and any((one / DESCRIPTION).is_file() for one in path.iterdir())
