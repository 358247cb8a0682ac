"""What `--help` prints."""

import dataclasses
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from absl import flags

from distill.command.flags import split_overrides
from distill.command.kind import family_of, others_config
from distill.config import load_file
from distill.config.help import REQUIRED, Key, Section, sections

_WIDEST = 100
_WIDEST_NAME = 26


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for help."""
    return bool({"--help", "-h", "-help"} & set(arguments))


def help_text(
    doc: str, values: flags.FlagValues, schema: type | None, arguments: Sequence[str] = ()
) -> str:
    """The pipeline's docstring, its flags, and the keys of its config, section by section.

    Args:
      doc: the docstring.
      values: the flags.
      schema: the config's; None if it has none.
      arguments: the command line's; of a config that they name, the keys' values are told.

    Raises:
      UserError: if there is no such config.
    """
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    parts = [doc.strip(), "\nFlags:", *_table(_flags(values), width)]
    if schema is None:
        return "\n".join(parts)
    spec, overrides = _config(arguments)
    tree = None if spec is None else load_file(spec)
    if tree is None:
        parts.append("\nKeys of the config. With --config=NAME, --help also tells its values.")
    else:
        parts.append(f"\nKeys of the config, and what they are in {spec} where it says so.")
        # Of what another command may make of it, nothing is said.
        plain = dataclasses.is_dataclass(schema)
        other = others_config(schema, tree.keys(), family_of(tree)) if plain else None
        if other is not None:
            parts.append(
                f"{spec} is {other.said}. These are the keys of distill {other.here}; for its own, "
                f"distill {other.there} --help --config={spec}"
            )
    for section in sections(schema, tree, overrides):
        if section.keys:
            rows = [*map(_row, section.keys)]
            parts += ["", *_header(section, width), *_table([*section.kinds, *rows], width)]
    return "\n".join(parts)


def _config(arguments: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The config that a command line names, and its overrides."""
    overrides, rest = split_overrides([one for one in arguments if not is_asked([one])])
    for place, argument in enumerate(rest):
        if argument.startswith("--config="):
            return argument.removeprefix("--config="), overrides
        if argument == "--config" and rest[place + 1 :]:
            return rest[place + 1], overrides
    return None, overrides


def _flags(values: flags.FlagValues) -> Iterable[tuple[str, str]]:
    for name in values:
        flag = values[name]
        default = "" if flag.default is None else f" (default {flag.default})"
        yield f"--{name}", f"{flag.help}{default}"


def _header(section: Section, width: int) -> list[str]:
    inside = section.path.removeprefix("config").removeprefix(".")
    prefix = f"--config.{inside}.KEY=VALUE" if inside else "--config.KEY=VALUE"
    return textwrap.wrap(
        f"{prefix}: {section.doc}" if section.doc else prefix,
        width,
        subsequent_indent="    ",
        break_on_hyphens=False,
    )


def _row(key: Key) -> tuple[str, str]:
    default = REQUIRED if key.default == REQUIRED else f"default {key.default}"
    applies = default if key.value in (None, key.default) else f"{key.value} here, {default}"
    doc = f" {key.doc}" if key.doc else ""
    return key.path.rpartition(".")[2], f"{key.kind} ({applies}).{doc}"


def _table(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Names, and beside each its text, wrapped."""
    rows = list(rows)
    column = min(max((len(name) for name, _ in rows), default=0), _WIDEST_NAME)
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, width - column - 4, break_on_hyphens=False) or [""]
        if len(name) > column:
            lines.append(f"  {name}")
            name = ""
        lines += [
            f"  {left:<{column}}  {right}".rstrip()
            for left, right in zip([name, *[""] * (len(wrapped) - 1)], wrapped, strict=True)
        ]
    return lines
