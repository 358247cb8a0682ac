"""What a directory of prepared images says of itself, in one file."""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from distill.data.fast import MAX_PIXELS
from distill.data.sources.base import printable
from distill.data.sources.class_lists import checked_names
from distill.data.sources.places import read_if_there, storage_of
from distill.errors import UserError
from distill.json_files import parse_json, write_json
from distill.paths import in_bucket

T = TypeVar("T")

MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
"""The folder of what is being prepared, which goes when all is there."""
Form = Literal["array_record", "tar"]
FORMS: tuple[Form, ...] = get_args(Form)
"""Kinds of files that images are written to, the usual one first."""
_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedShard:
    """A file of images."""

    name: str
    images: int
    size: int
    """In bytes."""
    blake2b: str
    """Of its content, 32 hexadecimal digits."""

    def is_in(self, folder: Path) -> bool:
        """Whether the file is there with its size; its content is not looked at."""
        try:
            return (folder / self.name).stat().st_size == self.size
        except OSError:
            return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedSplit:
    """A split, whose images are those of the source, in its order."""

    fingerprint: str
    """The source's, which changes where images, their order or classes do."""
    version: str = ""
    """The source's when it was prepared, by which images that were decoded are known again."""
    class_names: tuple[str, ...]
    images: int
    marked: int
    """How many have restart markers; the others are stored as they were."""
    corrupt: int
    """How many of those cannot be decoded."""
    index: str
    """The checksum of the split's index."""
    order: str | None
    """That of the order in which slices are taken, which is a file of its own; None where they are
    taken in the split's."""
    shards: tuple[PreparedShard, ...]

    @property
    def form(self) -> Form:
        """What kind of files its shards are."""
        return "tar" if any(shard.name.endswith(".tar") for shard in self.shards) else FORMS[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a directory holds."""

    source: str
    """The name of the source, as it was given."""
    distill: str
    """The version of this project that wrote it."""
    restarts: bool
    """Whether JPEGs were given restart markers."""
    max_pixels: int = MAX_PIXELS
    """Of an image that was looked at; those that declare more are stored as they were."""
    splits: Mapping[str, PreparedSplit]

    def write(self, folder: Path) -> None:
        """Writes it into the directory; with it, the directory is complete."""
        content = {"version": _VERSION, **dataclasses.asdict(self)}
        write_json(folder / MANIFEST, content, checked=True)

    @classmethod
    def read(cls, folder: Path | str) -> "Manifest":
        """That of a directory.

        Raises:
          UserError: if there is none, or it is of another version, or damaged.
        """
        folder = os.fspath(folder)
        file = os.path.join(folder, MANIFEST)
        if (encoded := read_if_there(file)) is None:
            raise UserError(_absent(folder))
        content = parse_json(encoded, file)
        version = content.get("version") if isinstance(content, dict) else None
        if version not in (None, _VERSION):
            raise UserError(
                f"{printable(folder)} was prepared in format {version}, and this version of "
                f"the project reads format {_VERSION}. Prepare the source into a new directory"
            )
        try:
            return _read(content)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{printable(file)} is not what distill prepare writes ({error}); prepare the "
                "source into a new directory"
            ) from error


def _read(content: dict[str, Any]) -> Manifest:
    fields = {key: value for key, value in content.items() if key != "version"}
    splits: Any = {
        name: _typed(
            PreparedSplit,
            split
            | {
                "class_names": checked_names(split["class_names"], "a split"),
                "shards": tuple(_typed(PreparedShard, shard) for shard in split["shards"]),
            },
        )
        for name, split in content["splits"].items()
    }
    return _typed(Manifest, fields | {"splits": splits})


def _typed(kind: type[T], values: dict[str, Any]) -> T:
    """One of these, whose values are of the types of its fields."""
    made = kind(**values)
    for name, hint in typing.get_type_hints(kind).items():
        expected = hint if isinstance(hint, types.UnionType) else typing.get_origin(hint) or hint
        if not isinstance(value := getattr(made, name), expected):
            raise TypeError(f"{name} is {value!r}")
    return made


def _absent(folder: str) -> str:
    where, is_folder = printable(folder), storage_of(folder).is_folder
    if not is_folder(folder):
        return f"{where} is no directory; expected one that distill prepare has written"
    if is_folder(os.path.join(folder, UNFINISHED)):
        return f"{where} is not prepared to the end; run the same distill prepare command again"
    output = f"DIR, and copy that to {where}" if in_bucket(folder) else where
    return (
        f"{where} holds no {MANIFEST}, so that it is no prepared data; write it with distill "
        f"prepare SOURCE --output={output}"
    )
