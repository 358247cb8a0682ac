"""Single values of a config: from text, to the type that their field declares."""

import ast
import dataclasses
import re
import sys
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from distill.bounds import bounds_of, words
from distill.config.schema import MISSING, bare, options
from distill.errors import did_you_mean


class Text(str):
    """A value as it was typed, which means what the type of its key makes of it."""

    @property
    def is_none(self) -> bool:
        """Whether it says that there is no value."""
        return self.lower() == "none"


@dataclasses.dataclass(frozen=True)
class KnownNames:
    """Marks a `dict` whose names are not free: `Annotated[dict[str, float], KnownNames(names)]`."""

    names: Callable[[], Iterable[str]]
    """Returns them; called when a config is read."""


def known_names(annotation: Any) -> tuple[str, ...] | None:
    """The names that an annotation's dict may have; None if any will do."""
    for option in options(annotation):
        for mark in typing.get_args(option)[1:]:
            if isinstance(mark, KnownNames):
                return tuple(mark.names())
    return None


def parse_text(text: str, annotation: Any) -> Any:
    """What a text on the command line is, for a key of this annotation."""
    text, choices = str(text), options(annotation)
    if text.lower() == "none" and type(None) in choices:
        return None
    if text.lower() in ("true", "false") and bool in choices:
        return text.lower() == "true"
    if any(bare(one) is str or text in typing.get_args(one) for one in choices):
        return text
    found = _evaluated(text)
    if found is MISSING:
        return text
    # A list of one, such as 5 or (5).
    if isinstance(found, int | float) and all(map(_of_numbers, choices)):
        return (found,)
    return found


def _evaluated(text: str) -> Any:
    """The Python value that a text is, or MISSING."""
    try:
        return ast.literal_eval(text)
    # The last two where brackets are nested too deep.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return MISSING


def _of_numbers(option: Any) -> bool:
    """Whether an option of an annotation is a list of numbers, or none."""
    item, *more = typing.get_args(option) or (None,)
    is_list = typing.get_origin(option) is tuple and more == [Ellipsis]
    return option is type(None) or (is_list and bare(item) in (int, float))


def coerce(value: Any, annotation: Any, here: str) -> Any:
    """`value` as `annotation` has it, or MISSING if it does not fit; `here` is its key.

    Raises:
      UserError: for a text that is not the path it has to be.
    """
    for option in options(annotation):
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal:
            for one in typing.get_args(option):
                if type(value) is type(one) and value == one:
                    return one
        if (bounds := bounds_of(option)) is not None:
            number = _number(value, bare(option))
            if number is not MISSING and number in bounds:
                return number
        elif typing.get_origin(option) is typing.Annotated and type(value) is str:
            return typing.get_args(option)[1](value, here)
        if option in (bool, str) and type(value) is option:
            return value
        if option in (int, float) and (number := _number(value, option)) is not MISSING:
            return number
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            items = _coerce_items(value, typing.get_args(option), here)
            if items is not MISSING:
                return items
    return MISSING


def _number(value: Any, kind: type) -> Any:
    """A value as a finite number, or MISSING if it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return MISSING
    if kind is int and (isinstance(value, int) or value.is_integer()):
        return int(value)
    if kind is float and abs(value) <= sys.float_info.max:
        return float(value)
    return MISSING


def _coerce_items(value, arguments, here) -> Any:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return MISSING
    items = tuple(coerce(v, a, here) for v, a in zip(value, arguments, strict=True))
    return MISSING if any(item is MISSING for item in items) else items


def literals(annotation: Any) -> list[str]:
    """The texts that an annotation lists; empty where it lists none."""
    listed = [one for one in options(annotation) if typing.get_origin(one) is Literal]
    return [text for one in listed for text in typing.get_args(one) if isinstance(text, str)]


def what_to_type(value: Any, annotation: Any, here: str) -> str:
    """The end of a message about a value that does not fit: what was probably meant.

    Args:
      value: as `parse_text` returns it.
      annotation: of the key.
      here: the key.
    """
    if isinstance(value, int | float):
        pairs = (("kernel$", value),)
        fits = any(coerce(pairs, option, here) is not MISSING for option in options(annotation))
        return f'; type --{here}="{pairs}", by what names match' if fits else ""
    if not isinstance(value, str):
        return ""
    if known := literals(annotation):
        return did_you_mean(value.lower(), known, alike=0.5)
    items = [item for item in re.split(r"[\s,;]+", value.strip("()[]{} ")) if item]
    numbers = tuple(map(_evaluated, items))
    for option in options(annotation) if items else ():
        if typing.get_origin(option) is not tuple:
            continue
        if coerce(numbers, option, here) is not MISSING:
            return f"; type --{here}={','.join(items)}"
        if coerce(tuple(items), option, here) is not MISSING:
            return f'; type --{here}="{tuple(items)}"'
    return ""


# Of a value, in messages.
_LONGEST = 100


def shown(value: Any) -> str:
    """A value as messages show it: what is long is cut."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes no numbers of more than 4,300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def type_name(annotation: Any) -> str:
    """What an annotation allows, in words."""
    return " or ".join(dict.fromkeys(map(_words, options(annotation))))


def _words(option: Any) -> str:
    arguments = typing.get_args(option)
    if option is type(None):
        return "none"
    if typing.get_origin(option) is Literal:
        listed = ", ".join(map(str, arguments))
        return f"one of {listed}" if len(arguments) > 1 else listed
    if bounds_of(option) is not None:
        return words(option)
    if typing.get_origin(option) is typing.Annotated:
        # Such as local_path.
        convert = getattr(arguments[1], "__name__", None)
        return convert.replace("_", " ") if convert else _words(arguments[0])
    if typing.get_origin(option) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {type_name(arguments[0])}"
        return f"({', '.join(map(type_name, arguments))})"
    if typing.get_origin(option) is dict:
        return f"{type_name(arguments[1])} by name"
    return _WORDS.get(option, "section")
