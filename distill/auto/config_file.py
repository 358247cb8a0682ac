"""A config as a file that `--config` reads and a person can read and change."""

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.auto.choices import Choice
from distill.config import to_dict
from distill.config.build import laid_over
from distill.config.values import Text

_WIDTH = 100
_HEAD = '''\
r"""{title}

  {command}

{text}
"""

import ml_collections


def get_config():
    return ml_collections.ConfigDict(
        dict(
'''
_TAIL = "        )\n    )\n"


def said(config: Any, tree: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """What a file has to say for a config, as plain values.

    Args:
      config: resolved.
      tree: what was chosen, nested.
      overrides: what the user has laid over it, by dotted keys.
    """
    merged = laid_over(tree, overrides, type(config), [])
    return _plain(merged, to_dict(config))


def _plain(node: Any, resolved: Any) -> Any:
    if isinstance(node, Mapping):
        found = resolved if isinstance(resolved, Mapping) else {}
        return {key: _plain(value, found.get(key)) for key, value in node.items()}
    return _tuples(resolved) if isinstance(node, Text) or isinstance(resolved, str) else node


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def config_text(
    tree: Mapping[str, Any], choices: Sequence[Choice], *, title: str, command: str
) -> str:
    """The file's content.

    Args:
      tree: nested values.
      choices: why they are as they are; each is said above the first of its keys.
      title: its first line.
      command: that runs it.
    """
    told = {key: choice for choice in choices for key in choice.keys}
    text = textwrap.fill(
        "Chosen by `distill auto`, which says above each value why it is so. What it measured is "
        "here as numbers: this file gives the same run again, bit for bit on the same machine. "
        "Change what you like, and train in a new --workdir.",
        _WIDTH,
    )
    head = _HEAD.format(title=_safe(title), command=_safe(command), text=text)
    return head + "".join(f"{line}\n" for line in _lines(tree, "", 12, told, set())) + _TAIL


def _safe(text: str) -> str:
    """A text that ends no docstring, in letters that every file can have."""
    one_line = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return one_line.replace('"""', "'''").replace("\n", " ").rstrip("\\")


def _lines(
    node: Mapping[str, Any],
    path: str,
    indent: int,
    told: Mapping[str, Choice],
    done: set[str],
) -> Iterator[str]:
    pad = " " * indent
    named = all(key.isidentifier() for key in node)
    for key, value in node.items():
        here = f"{path}.{key}" if path else key
        choice = told.get(here)
        if choice is not None and choice.what not in done:
            done.add(choice.what)
            words = _safe(f"{choice.what}: {choice.why}")
            yield from textwrap.wrap(
                words, _WIDTH, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# "
            )
        begin = f"{pad}{key}=" if named else f"{pad}{key!r}: "
        if isinstance(value, Mapping) and value:
            inner = all(one.isidentifier() for one in value)
            yield f"{begin}{'dict(' if inner else '{'}"
            yield from _lines(value, here, indent + 4, told, done)
            yield f"{pad}{')' if inner else '}'},"
        else:
            yield f"{begin}{'dict()' if isinstance(value, Mapping) else _python(value)},"


def _python(value: Any) -> str:
    """A value as Python has it, with the quotes that the project's configs have."""
    if isinstance(value, tuple):
        items = ", ".join(map(_python, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    # JSON's escapes are Python's, but for what a surrogate stands for.
    return json.dumps(value) if isinstance(value, str) and value.isprintable() else repr(value)


def write_whole(file: Path, text: str) -> None:
    """Writes a file that a reader finds whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
