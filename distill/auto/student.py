"""What is trained: a shape and a resolution, beside a teacher or without one."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from distill.auto.choices import Choice, parameters_in_words
from distill.auto.images import SMALL, Images
from distill.auto.teacher import Taught
from distill.errors import UserError, did_you_mean
from distill.nn import PairConfig
from students.vit import SHAPES, configure

DEFAULT = "S/16"
# Shapes that are tried, with the usual patches, while a teacher is less than twice as large.
_SMALLER = ("S", "Ti")
# Sides in pixels: of larger teachers students see less; below the other, nothing is a photograph.
_USUAL, _TINY = 224, 64
# How others write such a variant: ViT-B/16, vit_base_patch16, S16.
_LOOSE = re.compile(
    r"(?:(?:vit|deit)[-_ ]?)?(so400m|[a-z]+)[-_/ ]*(?:patch)?(\d+)?(?:[-_]\d+)?", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Student:
    """A plain ViT."""

    section: dict[str, Any]
    """The keys of `config.model`."""
    parameters: int
    """Without a classifier."""
    choices: tuple[Choice, ...]


def choose_student(asked: str | None, taught: Taught | None, images: Images) -> Student:
    """Chooses shape, patches and resolution.

    Args:
      asked: a variant such as `S/16`; None takes one that is smaller than the teacher.
      taught: the teacher; None if there is none.
      images: the run's.

    Raises:
      UserError: for a variant that there is not, or patches that do not fit the images.
    """
    side, why_side = _side(taught, images)
    if asked is None:
        section, why = _by_itself(taught, images, side)
    else:
        section, why = {"variant": checked_variant(asked)}, "as you say"
    patch = int(section["variant"].rpartition("/")[2])
    if asked is None and side < images.side and taught is None and images.train < SMALL:
        why_side += ", and of few images a small one learns as much"
    if patch > side:
        raise UserError(
            f"--student={section['variant']} has patches of {patch} pixels, and images are shown "
            f"at {side}×{side}; give smaller patches: "
            f"--student={section['variant'].partition('/')[0]}/{max(side // 4, 1)}"
        )
    size = side - side % patch
    if size != side:
        why_side += f", and a multiple of {patch}"
    section |= {"image_size": size}
    channels = 3 if taught is None else taught.channels
    if channels != 3:
        section |= {"channels": channels}
    section |= {"head": "gap" if "width" in section else "cls"}
    choices = {k: v for k, v in section.items() if k != "variant"}
    parameters = configure(section["variant"], **choices, num_classes=0).network().parameter_count()
    return Student(
        {"family": "vit", **section},
        parameters,
        tuple(_said(section, parameters, taught, why, why_side)),
    )


def checked_variant(text: str) -> str:
    """A variant such as `S/16`.

    Raises:
      UserError: for any other text, with the variant that it resembles.
    """
    match = re.fullmatch(r"(\w+)/([1-9]\d*)", text.strip())
    if match and match[1] in SHAPES:
        return match[0]
    loose = _LOOSE.fullmatch(text.strip())
    letters, patch = (loose[1], int(loose[2] or 0)) if loose else ("", 0)
    # Who writes vits16 means S, and has not heard of s.
    other = text.strip().lower().startswith(("vit", "deit"))
    near = letters if letters in SHAPES and not (other and letters == "s") else _nearest(letters)
    guess = f"; did you mean --student={near}/{patch or 16}?" if near else ""
    raise UserError(
        f"--student is {text!r}; expected a shape and the side of its patches in pixels, such as "
        f"{DEFAULT}, with a shape of {', '.join(SHAPES)}{guess}"
    )


def _nearest(letters: str) -> str | None:
    words = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H", "micro": "mu"}
    lower = letters.lower()
    named = {name.lower(): name for name in SHAPES if name != "s"} | words
    # Of one letter that is not there, another is no better guess than any.
    near = did_you_mean(lower, named) if len(lower) > 1 else ""
    return named.get(lower) or (named[near.split("'")[1]] if near else None)


def _side(taught: Taught | None, images: Images) -> tuple[int, str]:
    if taught is not None:
        if taught.size <= 256:
            return taught.size, "what the teacher sees"
        return _USUAL, f"the usual; the teacher sees {taught.size}, at which a step takes longer"
    if images.side < _TINY:
        return images.side - images.side % 4 if images.side >= 8 else 8, "as large as the images"
    if images.train < SMALL:
        return 128, f"of the images' {images.side} (median of the shorter sides)"
    return min(_USUAL, images.side), "the usual"


def _by_itself(taught: Taught | None, images: Images, side: int) -> tuple[dict[str, Any], str]:
    """The shape that is taken where none is asked for, and why."""
    if taught is None:
        if side < _TINY:
            patch = next(p for p in (8, 4, 2, 1) if side // p >= 4 or p == 1)
            small = dict(variant=f"mu/{patch}", width=128, depth=4, mlp_dim=512, heads=4)
            return small, "a small one, of images of so few pixels"
        if images.train < SMALL:
            return dict(variant="Ti/16"), f"{images.train:,} images do not fill a larger one"
        return dict(variant=DEFAULT), "the usual one"
    tower = taught.network.tower
    if isinstance(tower, PairConfig):
        tower = tower.image
    theirs = taught.network.parameter_count()
    patch = 16 if side >= 2 * _TINY else tower.patch_size
    for shape in _SMALLER:
        variant = f"{shape}/{patch}"
        if (
            2
            * configure(variant, num_classes=0, image_size=side - side % patch)
            .network()
            .parameter_count()
            <= theirs
        ):
            return dict(variant=variant), _compared(shape)
    # Heads of at least 16 dimensions, as ViTs of this size have them.
    width = max(tower.width // 2 - tower.width // 2 % 4, 8)
    heads = max((h for h in range(1, width // 16 + 1) if width % h == 0), default=1)
    small = dict(variant=f"mu/{patch}", width=width, depth=tower.depth, mlp_dim=4 * width)
    return small | {"heads": heads}, f"{DEFAULT} is no smaller than this teacher: half its width"


def _compared(shape: str) -> str:
    if shape == DEFAULT.partition("/")[0]:
        return "the usual student, at most half the teacher's parameters"
    return f"{DEFAULT} has more than half the teacher's parameters"


def _said(
    section: dict[str, Any], parameters: int, taught: Taught | None, why: str, why_side: str
) -> Iterator[Choice]:
    shape = section["variant"]
    if "width" in section:
        shape = f"{section['depth']} layers of width {section['width']}, /{shape.partition('/')[2]}"
    count = parameters_in_words(parameters)
    keys = tuple(f"model.{key}" for key in ("variant", "width", "depth", "mlp_dim", "heads"))
    yield Choice("student" if taught else "model", shape, f"{why}; {count}", keys)
    size = section["image_size"]
    who = "student" if taught else "model"
    yield Choice(f"{who} sees", f"{size}×{size}", why_side, ("model.image_size",))
