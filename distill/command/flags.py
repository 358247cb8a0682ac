"""A command line's flags, and the overrides of its config."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from distill.bounds import NotNegative
from distill.config.schema import MISSING, bare
from distill.config.values import coerce, parse_text, shown, type_name
from distill.errors import UserError
from distill.paths import local_path

_OVERRIDE = "--config."
# Of a budget, which other programs have flags for.
_UNITS = ("epochs", "images", "steps")
MOST_LISTED = 10_000
"""Numbers in one flag."""


def define_config(values: flags.FlagValues, default: str | None = None) -> None:
    """Defines --config, which `distill.config.load_file` reads."""
    flags.DEFINE_string(
        "config",
        default,
        "Config file, or a name that `distill configs` lists; with :ARGUMENT if it takes one.",
        flag_values=values,
    )


class _PathParser(flags.ArgumentParser):
    """Of a flag whose text `parse` turns into what `convert` says."""

    def __init__(self, convert: Callable[[str, str], str]):
        super().__init__()
        self.convert = convert


def define_path(
    name: str,
    doc: str,
    values: flags.FlagValues,
    default: str | None = None,
    *,
    read: Callable[[str, str], str] = local_path,
) -> None:
    """Defines a flag that holds a path on this machine, absolute once it is parsed.

    Args:
      name: of the flag.
      doc: its help.
      values: where it is defined.
      default: if it is not given.
      read: makes the value from the text and the flag's name.
    """
    flags.DEFINE(_PathParser(read), name, default, doc, flag_values=values)


class _NumberParser(flags.ArgumentParser):
    """Of a flag that holds a number within bounds."""

    def __init__(self, annotation: Any):
        super().__init__()
        self._annotation = annotation

    def parse(self, argument: Any) -> float:
        """The number.

        Raises:
          ValueError: if it is none, or out of bounds.
        """
        number = coerce(parse_text(argument, self._annotation), self._annotation, "")
        if number is MISSING:
            raise ValueError(f"expected {type_name(self._annotation)}")
        return number


def define_number(
    name: str, doc: str, values: flags.FlagValues, within: Any, default: float | None = None
) -> None:
    """Defines a flag that holds a number.

    Args:
      name: of the flag.
      doc: its help.
      values: where it is defined.
      within: what it may be, such as `distill.bounds.BatchSize`.
      default: if it is not given.
    """
    flags.DEFINE(_NumberParser(within), name, default, doc, flag_values=values)


def define_source(name: str, doc: str, values: flags.FlagValues) -> None:
    """Defines a flag that names a data source, such as `folder:PATH`."""
    # Commands that name no source start without what reads them.
    from distill.data.sources import source_name

    define_path(name, doc, values, read=source_name)


def define_price(values: flags.FlagValues) -> None:
    """Defines --price, of machines that a plan is for."""
    define_number(
        "price", "US dollars of a chip for an hour, to say what it costs.", values, NotNegative
    )


def define_verbose(values: flags.FlagValues) -> None:
    """Defines --verbose, of a command that trains."""
    flags.DEFINE_bool(
        "verbose",
        False,
        "Prints all that train.log has: the table of parameters, every figure of an evaluation.",
        flag_values=values,
    )


def check_writable(name: str, file: Path | None) -> None:
    """Checks that the file that a flag names can be written, before anybody waits for it.

    Args:
      name: of the flag.
      file: to be written, with its directories; None if there is none.

    Raises:
      UserError: if it cannot.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
    except OSError as error:
        raise UserError(f"--{name}: cannot write {file}: {error.strerror}") from error


def number_list(flag: str, text: str, within: Any) -> tuple:
    """The numbers that a flag lists, such as 1024,1408 or 1024:2048:256 (both ends included).

    Args:
      flag: its name.
      text: its value.
      within: what each may be, such as `distill.bounds.Width`.

    Raises:
      UserError: for anything else.
    """
    found, is_whole = [], bare(within) is int
    for item in text.split(","):
        ends = re.fullmatch(r"(\d{1,9}):(\d{1,9}):([1-9]\d{,8})", item)
        if ends and is_whole:
            first, last, step = map(int, ends.groups())
            found += range(first, last + 1, step)[: MOST_LISTED + 1]
        elif re.fullmatch(r"\d{1,18}" if is_whole else r"\d{1,18}(\.\d{1,18})?", item):
            found.append(bare(within)(item))
        else:
            example = "1024,1408 or 1024:2048:256" if is_whole else "0.05 or 0.05,4"
            raise UserError(f"--{flag} has {shown(item)}; expected numbers such as {example}")
    if len(found) > MOST_LISTED:
        raise UserError(f"--{flag} lists more than {MOST_LISTED:,} numbers; give fewer")
    for number in found:
        if coerce(number, within, flag) is MISSING:
            raise UserError(f"--{flag} has {number:,}; expected {type_name(within)} each")
    return tuple(found)


def parse(values: flags.FlagValues, arguments: Sequence[str], required: Sequence[str] = ()) -> None:
    """Parses absl flags.

    Raises:
      UserError: for unknown or missing flags, stray arguments and what is no path.
    """
    if rest := parse_some(values, arguments, required):
        is_workdir = "workdir" in values and values.workdir is None and Path(rest[0]).is_dir()
        hint = f"; a workdir is given as --workdir={rest[0]}" if is_workdir else ""
        raise UserError(f"unexpected argument {rest[0]!r}{hint}\nSee --help")


def parse_some(
    values: flags.FlagValues, arguments: Sequence[str], required: Sequence[str] = ()
) -> list[str]:
    """Parses absl flags, and returns the arguments that are none.

    Raises:
      UserError: for unknown or missing flags, and what is no path.
    """
    try:
        rest = values(["distill", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(_unknown(error, values, arguments)) from error
    except flags.Error as error:
        raise UserError(f"{error}\nSee --help") from error
    for name in values:
        if values[name].value == "" or (name in required and values[name].value is None):
            raise UserError(f"--{name} needs a value: --{name}=VALUE\nSee --help")
    for name in values:
        flag = values[name]
        if isinstance(flag.parser, _PathParser) and flag.value is not None:
            flag.value = flag.parser.convert(flag.value, f"--{name}")
    return rest


def _unknown(
    error: flags.UnrecognizedFlagError, values: flags.FlagValues, arguments: Sequence[str]
) -> str:
    """What is said of a flag that there is not."""
    unit = error.flagname.removeprefix("total_")
    if "budget" in values and unit in _UNITS:
        given = re.search(rf"--{re.escape(error.flagname)}[= ](\d+)( |$)", " ".join(arguments))
        number = given[1] if given else "N"
        return f"unknown flag --{error.flagname}; type --budget={number}{unit}\nSee --help"
    if "config" in values and "Did you mean" not in str(error):
        key = error.flagname if "." in error.flagname else f"SECTION.{error.flagname}"
        said = f"a key of the config is given as {_OVERRIDE}{key}=VALUE"
        return f"unknown flag --{error.flagname}; {said}\n--help lists flags and keys"
    return f"{error}\nSee --help"


def split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--config.a.b=value` and `--config.a.b value` out of the arguments.

    Raises:
      UserError: for an override without a value.
    """
    overrides, rest = {}, []
    remaining = iter(arguments)
    for argument in remaining:
        if argument.startswith(_OVERRIDE[1:]):
            raise UserError(f"{argument} has one dash; give it two: -{argument}")
        if not argument.startswith(_OVERRIDE):
            rest.append(argument)
            continue
        key, equals, value = argument.removeprefix(_OVERRIDE).partition("=")
        if not equals:
            value = next(remaining, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{argument} needs a value: {argument}=VALUE")
        overrides[key] = value
    return overrides, rest
