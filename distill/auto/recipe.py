"""What is learned of whom: the losses, views, optimiser and evaluations of a run.

The recipes are those of `configs/distill/published.py`, `dense.py`, `siglip_student.py`,
`digits.py` and `configs/pretrain/folder.py`.
"""

import dataclasses
from typing import Any, Literal

from distill.auto.choices import Choice
from distill.auto.images import Images
from distill.auto.layout import why_no_classes
from distill.auto.student import Student
from distill.auto.teacher import Taught
from distill.data.classes import places
from distill.errors import UserError

Match = Literal["logits", "embedding", "tokens", "words", "labels"]

_LOSSES: dict[Match, dict[str, float]] = {
    "logits": dict(kl=1.0, embedding_cosine=1.0),
    "embedding": dict(kl=0.0, embedding_cosine=1.0, labels=1.0),
    "tokens": dict(kl=0.0, embedding_cosine=1.0, tokens_cosine=0.9, tokens_smooth_l1=0.1),
    "words": dict(kl=0.0, embedding_cosine=1.0),
}
_SAID: dict[Match, str] = {
    "logits": "logits and embedding",
    "embedding": "embedding, and labels",
    "tokens": "embedding and patch tokens",
    "words": "embedding, as texts are compared with it",
    "labels": "labels",
}
# Images of so few pixels are signs rather than photographs: mirrored, they are others.
_SIGNS = 32
# Of a model that wide, steps may be as long as those of the digits.
_NARROW = 128


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Sections of a config."""

    match: Match
    sections: dict[str, Any]
    choices: tuple[Choice, ...]


def choose_recipe(images: Images, taught: Taught | None, student: Student) -> Recipe:
    """Chooses what the student learns, and by what.

    Args:
      images: the run's.
      taught: the teacher; None if there is none.
      student: what is trained.

    Raises:
      UserError: if nothing can be learned of the images.
    """
    match, why = _match(images, taught)
    choices = [Choice("matched" if taught else "learned", _SAID[match], why, ("matching.losses",))]
    sections: dict[str, Any] = {"model": dict(student.section)}
    if taught is not None:
        mixup = 0.0 if match == "tokens" else 1.0
        sections |= {
            "teacher": dict(taught.section),
            "matching": dict(losses=dict(_LOSSES[match]), mixup=mixup),
        }
        mixed = "mixed, as its teacher sees it" if mixup else "as its teacher sees it, not mixed"
    else:
        sections["loss"] = dict(kind="sigmoid", mixup=0.2)
        mixed = "mixed a little"
    if match == "tokens":
        sections["model"]["num_classes"] = 0
    if match == "words":
        image = {k: v for k, v in student.section.items() if k != "head"} | {"head": "map"}
        sections["model"] = dict(family="pair", image=image)
        sections["evals"] = _evals_of_words(images)
    view = _view(images)
    sections["data"] = images.section | ({"view": view} if view else {})
    area = view["crop_area"] if view else (0.05, 1.0)
    crop = f"{area[0]:.0%} to {area[1]:.0%} of an image, {mixed}"
    why = "the inception crop of the papers" if not view else "of images of so few pixels"
    choices.append(Choice("views", crop, why, ("data.view.crop_area", "matching.mixup")))
    optimizer, schedule, choice = _optimiser(student, taught)
    sections |= {"optimizer": optimizer, "schedule": schedule}
    return Recipe(match, sections, (*choices, choice))


def _match(images: Images, taught: Taught | None) -> tuple[Match, str]:
    names = images.class_names
    if taught is None:
        if len(names) < 2:
            if why := why_no_classes(images.section["source"], names):
                raise UserError(
                    f"without a teacher, classes are learned from labels, and {why}; or give "
                    "--teacher=PATH, of a run or published weights, which needs no labels"
                )
            raise UserError(
                "without a teacher, classes are learned from labels, and there are none: give "
                "--teacher=PATH, of a run or published weights, or images in folders, a class each "
                "(root/class/image)"
            )
        return "labels", "there is no teacher"
    if taught.words:
        return "words", "the teacher has a text tower, which the student keeps"
    theirs, count = taught.described.class_names, taught.classes
    if not names:
        if count:
            return "logits", f"the teacher tells {count:,} classes apart; images need no labels"
        return "tokens", "neither the images nor the teacher have classes (configs/distill/dense)"
    if count and theirs and _has_all(names, theirs):
        return "logits", "the teacher has the images' classes: function matching"
    if count == len(names) and not theirs:
        return "logits", "the teacher has as many classes, which it does not name"
    why = "other classes" if count else "no classes"
    return "embedding", f"the teacher has {why}; the images' are learned beside its features"


def _has_all(names: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    try:
        places(names, theirs, shown="the images", whose="the teacher", in_order=False)
    except UserError:
        return False
    return True


def _evals_of_words(images: Images) -> dict[str, Any]:
    """A pair is measured by the names of the images' classes, where there are any."""
    if not images.class_names:
        return {"views": dict(kind="views")}
    return {"val": dict(kind="split"), "zeroshot": dict(kind="zeroshot")}


def _view(images: Images) -> dict[str, Any]:
    if images.side > _SIGNS:
        return {}
    return dict(crop_area=(0.9, 1.0), flip=False, eval_crop=1.0)


def _optimiser(student: Student, taught: Taught | None) -> tuple[dict, dict, Choice]:
    narrow = student.section.get("width", _NARROW + 1) <= _NARROW
    keys = ("optimizer.name", "optimizer.learning_rate", "schedule.kind")
    if taught is None:
        rate = 3e-3 if narrow else 1e-3
        decay = (("^classifier/kernel$", 3.0 * rate), ("kernel$", 0.03 * rate))
        optimizer = dict(name="adafactor", learning_rate=rate, weight_decay=decay)
        schedule = dict(kind="constant", warmup_percent=5.0, cooldown_percent=20.0)
        why = "as configs/pretrain/folder: constant between warmup and cooldown"
        return optimizer, schedule, Choice("optimiser", f"Adafactor, {rate:g}", why, keys)
    schedule = dict(kind="cosine", warmup_percent=5.0)
    if narrow:
        optimizer = dict(name="adafactor", learning_rate=3e-3, weight_decay=(("kernel$", 1e-4),))
        chosen = "Adafactor, 0.003"
        return optimizer, schedule, Choice("optimiser", chosen, "as configs/distill/digits", keys)
    optimizer = dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),))
    why = "as configs/distill/published: cosine, a twentieth of the run to warm up"
    return optimizer, schedule, Choice("optimiser", "Adam, 0.001", why, keys)
