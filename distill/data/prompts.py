"""Texts that stand for classes: the names that a class goes by, put into templates."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.data.sources.base import count, fingerprint_of
from distill.data.tokens import Tokenizer, canonicalise
from distill.errors import UserError, did_you_mean
from distill.json_files import read_json
from distill.paths import SHORT, LocalPath, Templates

PLACE = "{}"
"""Where a template has a class's name."""

TEMPLATES = (
    "{}",
    "a picture of {}",
    "a photograph that shows {}",
    "{} up close",
    "{} seen from afar",
    "a drawing of {}",
    "a blurred picture of {}",
    "{} where it is usually found",
)
"""Those that are taken where none are given."""

Names = tuple[tuple[str, ...], ...]
"""Of each class, what it is called, once at least."""


def own_names(classes: Sequence[str]) -> Names:
    """What classes are called where no file says so: as in the data, with spaces for `_`."""
    return tuple((name.replace("_", " "),) for name in classes)


def read_names(file: Path, classes: Sequence[str]) -> Names:
    """What classes are called, as a file says.

    A line for each class, in the order of `classes`, with one name or several separated by commas,
    or several as a list in JSON, where a name has a comma. Or, in a file that ends with `.json`, a
    list of names and of lists of names in this order, or an object from class to such.

    Args:
      file: the file.
      classes: names of the classes in the data.

    Raises:
      UserError: if the file cannot be read, does not have each class, or a class has no name.
    """
    if file.suffix.lower() == ".json":
        return _named(file, read_json(file), classes)
    lines = _lines(file)
    if len(lines) != len(classes):
        raise UserError(_of_others(file, count(len(lines), "line"), classes))
    return tuple(_names_in(line, f"{file}, line {number:,}") for number, line in lines)


def classes_in(file: Path) -> tuple[str, ...]:
    """The classes that a file as `read_names` takes it has, where nothing else says them.

    Of an object in JSON its keys, else the first name of each class.

    Raises:
      UserError: if the file cannot be read, has no class, or a class has no name.
    """
    if file.suffix.lower() == ".json":
        content = read_json(file)
        if isinstance(content, dict) and content:
            return tuple(content)
        expected = len(content) if isinstance(content, list) else 0
    else:
        expected = len(_lines(file))
    if not expected:
        raise UserError(f"{file} names no classes; expected a line for each, such as 'cat, tom'")
    return tuple(names[0] for names in read_names(file, tuple(map(str, range(expected)))))


def _named(file: Path, content: Any, classes: Sequence[str]) -> Names:
    if isinstance(content, dict):
        lacking = [name for name in classes if name not in content]
        if lacking:
            near = did_you_mean(lacking[0], content)
            raise UserError(
                f"{file} lacks {len(lacking):,} of the {len(classes):,} classes, such as "
                f"{lacking[0]!r}{near}"
            )
        if unknown := [name for name in content if name not in {*classes}]:
            near = did_you_mean(unknown[0], classes)
            raise UserError(f"{file} names {unknown[0]!r}, which is no class of the data{near}")
        content = [content[name] for name in classes]
    if not isinstance(content, list):
        raise UserError(f'{file} is no list of names; expected ["cat", ["dog", "hound"]]')
    if len(content) != len(classes):
        raise UserError(_of_others(file, count(len(content), "name"), classes))
    return tuple(
        _checked([one] if isinstance(one, str) else one, f"{file}, class {number:,}")
        for number, one in enumerate(content)
    )


def _of_others(file: Path, found: str, classes: Sequence[str]) -> str:
    return (
        f"{file} has {found}, but the data has {len(classes):,} classes, from {classes[0]!r} to "
        f"{classes[-1]!r}; expected one for each, in this order"
    )


def _names_in(line: str, where: str) -> tuple[str, ...]:
    if not line.startswith("["):
        return _checked([name for name in line.split(",") if name.strip()], where)
    try:
        return _checked(json.loads(line), where)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no list in JSON: {error}") from error


def _checked(names: Any, where: str) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} is {names!r}; expected a name or a list of names")
    if not names or not all(name.strip() for name in names):
        raise UserError(f"{where} has no name, or an empty one; a class is called something")
    return tuple(" ".join(name.split()) for name in names)


def read_templates(file: Path) -> tuple[str, ...]:
    """Templates, one a line, in which `{}` is where a class's name stands.

    Raises:
      UserError: if the file cannot be read, has none, or a line lacks `{}`.
    """
    lines = _lines(file)
    if not lines:
        raise UserError(f"{file} has no templates; expected lines such as 'a picture of {PLACE}'")
    for number, line in lines:
        if PLACE not in line:
            raise UserError(
                f"{file}, line {number:,}, {line!r}, has no {PLACE}, where a class's name stands"
            )
    return tuple(line for _, line in lines)


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    lines = enumerate((line.strip() for line in text.splitlines()), 1)
    return [(number, line) for number, line in lines if line]


def prompts(names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> tuple[str, ...]:
    """The texts that stand for a class: each of its names in each template."""
    return tuple(template.replace(PLACE, name) for name in names for template in templates)


class ClassTokens(NamedTuple):
    """Texts that stand for classes, as a text tower takes them."""

    ids: np.ndarray
    """[N, L] int32."""
    classes: np.ndarray
    """The number of each text's class, [N] int64."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Which texts stand for classes."""

    class_names: LocalPath | None = None
    """A file that says what classes are called, a line or an entry for each; None takes their names
    in the data."""
    templates: Templates = SHORT
    """A file of templates, one a line, with {} where a name stands; `short` for eight that are
    shipped; or a template itself, such as {} or 'a photo of a {}'."""
    canonical: bool | None = None
    """Whether texts are small letters without punctuation, as big_vision has them; None does what
    the tokenizer's family is reported with: SigLIP and SigLIP 2 so, CLIP not."""

    def names(self, classes: Sequence[str]) -> Names:
        """What each class is called.

        Raises:
          UserError: if the file cannot be read or is of other classes.
        """
        return (
            read_names(Path(self.class_names), classes) if self.class_names else own_names(classes)
        )

    def texts(self, names: Names, tokenizer: Tokenizer) -> tuple[tuple[str, ...], ...]:
        """Of each class, the texts that stand for it.

        Raises:
          UserError: if templates cannot be read, or nothing is left of a text.
        """
        found = tuple(prompts(some, self._templates) for some in names)
        if self._cleaned(tokenizer):
            found = tuple(tuple(map(canonicalise, some)) for some in found)
        for some, called in zip(found, names, strict=True):
            if not all(some):
                raise UserError(
                    f"nothing is left of the name {called[0]!r} without punctuation; call the "
                    "class otherwise, or set canonical=false"
                )
        return found

    def tokens(
        self, texts: Sequence[Sequence[str]], tokenizer: Tokenizer, vocab: int
    ) -> "ClassTokens":
        """The tokens of the texts that stand for classes, each of which has one.

        Raises:
          UserError: if the tokenizer is that of another text tower; see `Tokenizer.within`.
        """
        ids = tokenizer.within(vocab, [text for some in texts for text in some])
        return ClassTokens(ids, np.repeat(np.arange(len(texts)), [len(some) for some in texts]))

    def about(self, texts: Sequence[Sequence[str]], tokenizer: Tokenizer) -> dict[str, Any]:
        """What class vectors are made of, as JSON can hold it."""
        return {
            "classes": len(texts),
            "texts": sum(map(len, texts)),
            "templates": self.templates,
            "canonical": self._cleaned(tokenizer),
            "fingerprint": fingerprint_of(*texts),
            "tokenizer": {"family": tokenizer.family, "fingerprint": tokenizer.fingerprint},
        }

    @property
    def _templates(self) -> tuple[str, ...]:
        if self.templates == SHORT:
            return TEMPLATES
        return (
            (self.templates,) if PLACE in self.templates else read_templates(Path(self.templates))
        )

    def _cleaned(self, tokenizer: Tokenizer) -> bool:
        return tokenizer.family != "clip" if self.canonical is None else self.canonical


def described(about: dict[str, Any]) -> str:
    """What `PromptsConfig.about` says, in words."""
    cleaned = "small letters without punctuation" if about["canonical"] else "texts as they are"
    return (
        f"zero-shot: {about['classes']:,} classes by {about['texts']:,} texts, templates "
        f"{about['templates']}, {cleaned}, tokens of {about['tokenizer']['family']}"
    )
