"""Paths that a directory recorded, found again when it lies elsewhere.

A run's workdir, and the directory of stored targets, say in `claim.json` where they were when they
were claimed: `workdir`, and in `earlier` the places before. What moved along with a directory is at
the same place relative to it as before.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import Damaged
from distill.json_files import read_json, write_json
from distill.paths import in_bucket, native

CLAIM = "claim.json"

# The format of a data source, a path, a checkpoint's step. Paths are absolute but for those of the
# two formats that older runs recorded as they were typed.
_RECORDED = re.compile(
    r"((?:(?:folder|images):|[A-Za-z]\w*:(?=/(?!/)))?)(.+?)((?:@\d+)?)", re.DOTALL
)
# What may follow the path of a source: options, and before them a pattern of files.
_OPTIONS = re.compile(r"\?\w+=[^?/]*\Z")
_PATTERN = re.compile(r"/[^/]*[*?\[{].*", re.DOTALL)
# Older runs recorded these as they were typed, relative to the directory they were started in.
_TYPED = ("workdir", "path", "targets", "source", "data_dir")
# Sections whose `source` names data.
_OF_DATA = {"data", "evals"}


def read_recorded(file: Path) -> Any:
    """Reads a JSON file of a directory; paths in it that are gone are looked for where it is now.

    Raises:
      UserError: if it cannot be read or is not JSON.
    """
    # Before the file: whoever claims a directory writes the file first.
    claimed = Claimed.read(file.parent)
    return claimed.found(read_json(file))


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A directory that recorded paths, and where it was when it did."""

    directory: Path
    """Where it is."""
    places: tuple[str, ...]
    """Where it was claimed, the newest first; empty where it was not recorded."""

    @classmethod
    def read(cls, directory: Path) -> "Claimed":
        """What claim.json says; nothing of a directory that older code claimed.

        Raises:
          UserError: if it is damaged.
        """
        claim = _read(directory)
        places = (claim.get("workdir"), *claim.get("earlier", ()))
        return cls(Path(os.path.abspath(directory)), tuple(filter(None, places)))

    def write(self, record: Mapping[str, Any] | None = None) -> None:
        """Writes where the directory is to claim.json, and what else is to be kept there.

        Args:
          record: as JSON can hold it; other keys that are there stay.
        """
        here = str(self.directory)
        earlier = [place for place in self.places if place != here]
        there = _read(self.directory)
        claim = there | dict(record or {}) | {"workdir": here}
        if earlier:
            claim["earlier"] = earlier
        if claim != there:
            write_json(self.directory / CLAIM, claim)

    def found(self, recorded: Any) -> Any:
        """Recorded JSON; of each path that does not exist, the first place where it does.

        A path that exists nowhere stays as it is.
        """
        return self._found(recorded, ())

    def _found(self, recorded: Any, keys: tuple[str, ...]) -> Any:
        if isinstance(recorded, dict):
            return {key: self._found(value, (*keys, key)) for key, value in recorded.items()}
        if isinstance(recorded, list):
            return [self._found(value, keys) for value in recorded]
        if not isinstance(recorded, str) or not _is_path(recorded, keys):
            return recorded
        exist = (place for place in self._places_of(recorded) if _exists(_split(place)[1]))
        return next(exist, recorded)

    def aligned(self, recorded: Any, given: Any) -> Any:
        """Recorded JSON with the paths of `given` where both name one place.

        That is the same path, through links or not, or one as far from where the directory is as
        the other from where it was.
        """
        if isinstance(recorded, dict) and isinstance(given, dict):
            return {
                key: self.aligned(value, given[key]) if key in given else value
                for key, value in recorded.items()
            }
        if isinstance(recorded, list) and isinstance(given, list) and len(recorded) == len(given):
            return [self.aligned(*pair) for pair in zip(recorded, given, strict=True)]
        if isinstance(recorded, str) and isinstance(given, str):
            return given if self._same_place(recorded, given) else recorded
        return recorded

    def _same_place(self, recorded: str, given: str) -> bool:
        if not os.path.isabs(_split(given)[1]) or "\0" in recorded:
            return False
        return _real(given) in map(_real, self._places_of(recorded))

    def _places_of(self, recorded: str) -> Iterator[str]:
        """Where a recorded path may be, absolute, likeliest first."""
        kind, path, step = _split(recorded)
        path = os.path.expanduser(native(path))
        if os.path.isabs(path):
            steps = (os.path.relpath(path, place) for place in self.places)
            places = [path, *(os.path.join(self.directory, one) for one in steps)]
        else:
            places = [path, *(os.path.join(folder, path) for folder in self.directory.parents)]
        for place in places:
            yield f"{kind}{os.path.abspath(place)}{step}"


def _read(directory: Path) -> dict[str, Any]:
    file = directory / CLAIM
    claim = read_json(file) if file.exists() else {}
    if not isinstance(claim, dict):
        raise Damaged(f"{file} is damaged: expected an object")
    return claim


def _is_path(text: str, keys: tuple[str, ...]) -> bool:
    kind, path, _ = _split(text)
    if "\0" in path or in_bucket(path):
        return False
    # The names of other data sources are no paths.
    of_data = keys[-1:] == ("source",) and _OF_DATA & {*keys}
    typed = keys and keys[-1] in _TYPED and not of_data
    return bool(kind or os.path.isabs(path) or typed)


def _exists(path: str) -> bool:
    """Whether a path leads somewhere, of files of a pattern, their folder."""
    return os.path.exists(path) or os.path.exists(_PATTERN.sub("", _OPTIONS.sub("", path)))


def _split(recorded: str) -> tuple[str, str, str]:
    whole = _RECORDED.fullmatch(recorded)
    return (whole[1], whole[2], whole[3]) if whole else ("", recorded, "")


def _real(path: str) -> tuple[str, bytes, str]:
    kind, place, step = _split(path)
    # As bytes, which do not depend on the locale.
    return kind, os.fsencode(os.path.realpath(place)), step
