"""What config.json says, and what the shapes of tensors do, checked when it is asked for."""

import difflib
import math
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.json_files import read_json
from distill.tensor_files import Shape, TensorFile

_SHOWN = 3
# No width or depth is larger, and no image in pixels.
_LARGEST, LARGEST_SIDE = 2**20, 4096


def shape_of(file: TensorFile, name: str, rank: int) -> Shape:
    """The shape of a tensor that says how large a model is.

    Raises:
      UserError: if it is missing, empty, or has another number of axes.
    """
    if name not in file.tensors:
        raise UserError(f"{file.path}: {name} is missing: {what_it_has(file, name)}")
    found = file.tensors[name].shape
    if len(found) != rank or 0 in found:
        raise UserError(
            f"{file.path}: {name} is {list(found)}; expected {rank} axes, none of them empty"
        )
    return found


def what_it_has(file: TensorFile, wanted: str = "") -> str:
    """Such as "it has 3 tensors, such as a, b"; the names that are most like the one wanted."""
    near = difflib.get_close_matches(wanted, file.tensors, _SHOWN, cutoff=0.0) if wanted else ()
    names = near or list(file.tensors)[:_SHOWN]
    return f"it has {len(file.tensors)} tensors, such as {', '.join(names)}"


class Settings:
    """A JSON file beside the weights, such as config.json, whose values are checked when read.

    `about` is for messages. A missing file has no values.
    """

    def __init__(self, content: dict[str, Any], about: str):
        self.content = content
        self.about = about

    @classmethod
    def beside(cls, weights: Path, name: str) -> "Settings":
        """Reads the file `name` of the weights' directory.

        Raises:
          UserError: if it is damaged.
        """
        file = (weights if weights.is_dir() else weights.parent) / name
        content = read_json(file) if file.exists() else {}
        if not isinstance(content, dict):
            raise UserError(f"{file} is damaged: expected keys and values")
        return cls(content, str(file))

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def with_defaults(self, defaults: dict[str, Any]) -> "Settings":
        """With `defaults` where nothing, or null, is said."""
        said = {key: value for key, value in self.content.items() if value is not None}
        return Settings(defaults | said, self.about)

    def section(self, key: str) -> "Settings":
        """The values below `key`; none if it is not there."""
        return Settings(self._get(key, dict, {}, "keys and values"), f"{self.about}, {key}")

    def integer(self, key: str, default: int) -> int:
        """A whole number that a model can have."""
        value = self._get(key, (int, float), default, "a whole number")
        if not 0 <= value < _LARGEST or value != int(value):
            raise UserError(f"{self.about}: {key} is {value!r}; expected a whole number below 2^20")
        return int(value)

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        return self._finite(key, self._get(key, (int, float), default, "a number"))

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return self._get(key, bool, default, "true or false")

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return self._get(key, str, default, "a text")

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Finite numbers, of which there may be one alone, or None."""
        values = self._get(key, (list, int, float), None, "numbers")
        if values is None:
            return None
        values = values if isinstance(values, list) else [values]
        if not values or not all(type(value) in (int, float) for value in values):
            raise UserError(f"{self.about}: {key} is {values!r}; expected numbers")
        return tuple(self._finite(key, value) for value in values)

    def size(self, key: str) -> int | tuple[int, int] | None:
        """A side in pixels, or height and width, or None."""
        value = self.content.get(key)
        if value is None:
            return None
        pair = [value, value] if isinstance(value, int) else value
        if isinstance(value, dict) and self._keys(value) == {"height", "width"}:
            pair = [value["height"], value["width"]]
        valid = isinstance(pair, list) and len(pair) == 2
        if not valid or not all(map(_is_side, pair)):
            raise UserError(
                f"{self.about}: {key} is {value!r}; expected a side, or two, of up to "
                f"{LARGEST_SIDE} pixels"
            )
        return pair[0] if pair[0] == pair[1] else (pair[0], pair[1])

    def shortest_edge(self, key: str) -> int | None:
        """The shorter side of an image, in pixels, where its longer one is up to the image."""
        value = self.content.get(key)
        if isinstance(value, dict) and self._keys(value) == {"shortest_edge"}:
            value = value["shortest_edge"]
        elif not isinstance(value, int) or self.boolean("default_to_square", True):
            return None
        if not _is_side(value):
            raise UserError(
                f"{self.about}: {key} is {value!r}; expected a side of up to {LARGEST_SIDE} pixels"
            )
        return value

    @staticmethod
    def _keys(value: dict[str, Any]) -> set[str]:
        return {key for key, said in value.items() if said is not None}

    def _finite(self, key: str, value: float) -> float:
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
        raise UserError(f"{self.about}: {key} is not finite")

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any, expected: str) -> Any:
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{self.about}: {key} is {value!r}; expected {expected}")
        return value


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_SIDE
