"""A command line's flags, and the overrides of its config."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from distill.errors import UserError
from distill.paths import local_path

_OVERRIDE = "--config."


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


def define_source(name: str, doc: str, values: flags.FlagValues) -> None:
    """Defines a flag that names a data source, such as `folder:PATH`."""
    # Commands that name no source start without what reads them.
    from distill.data.sources import source_name

    define_path(name, doc, values, read=source_name)


def define_price(values: flags.FlagValues) -> None:
    """Defines --price, of machines that a plan is for."""
    flags.DEFINE_float(
        "price", None, "US dollars of a chip for an hour, to say what it costs.", 0.0,
        flag_values=values,
    )  # fmt: skip


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


def number_list(flag: str, text: str, kind: type = int) -> tuple:
    """The numbers that a flag lists, such as 1024,1408 or 1024:2048:256 (both ends included).

    Raises:
      UserError: for anything else.
    """
    found = []
    for item in text.split(","):
        ends = re.fullmatch(r"(\d+):(\d+):([1-9]\d*)", item)
        if ends and kind is int:
            first, last, step = map(int, ends.groups())
            found += range(first, last + 1, step)
        elif re.fullmatch(r"\d+" if kind is int else r"\d+(\.\d+)?", item):
            found.append(kind(item))
        else:
            example = "1024,1408 or 1024:2048:256" if kind is int else "0.05 or 0.05,4"
            raise UserError(f"--{flag} has {item!r}; expected numbers such as {example}")
    return tuple(found)


def parse(values: flags.FlagValues, arguments: Sequence[str], required: Sequence[str] = ()) -> None:
    """Parses absl flags.

    Raises:
      UserError: for unknown or missing flags, stray arguments and what is no path.
    """
    if rest := parse_some(values, arguments, required):
        raise UserError(f"unexpected argument {rest[0]!r}\nSee --help")


def parse_some(
    values: flags.FlagValues, arguments: Sequence[str], required: Sequence[str] = ()
) -> list[str]:
    """Parses absl flags, and returns the arguments that are none.

    Raises:
      UserError: for unknown or missing flags, and what is no path.
    """
    try:
        rest = values(["distill", *arguments])[1:]
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


def split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Takes `--config.a.b=value` and `--config.a.b value` out of the arguments.

    Raises:
      UserError: for an override without a value.
    """
    overrides, rest = {}, []
    remaining = iter(arguments)
    for argument in remaining:
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
