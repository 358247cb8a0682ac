"""Plain text, as docstrings and help have it, as Markdown."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

_CODE = re.compile(r"(`[^`]+`)")
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_IN_LIST = re.compile(r"(?:[-*]|\d+\.) | ")
_SPECIAL = re.compile(r"([\\*_\[\]|~#])")


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is, but for what is code in it."""
    return "".join(
        part.replace("|", r"\|")
        if _CODE.fullmatch(part)
        else _SPECIAL.sub(r"\\\1", html.escape(part, quote=False))
        for part in _CODE.split(text)
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines]


def code(text: str) -> str:
    """Text in a span of code, also in a table."""
    return f"`{text}`".replace("|", r"\|")


def from_docstring(text: str, language: str = "text") -> list[str]:
    """Lines of a docstring: what is indented is code."""
    lines: list[str] = []
    for is_code, paragraph in _paragraphs(text):
        if is_code:
            lines += ["", f"```{language}", *paragraph, "```"]
        else:
            lines += ["", *map(escaped, paragraph)]
    return lines[1:]


def _paragraphs(text: str) -> Iterator[tuple[bool, list[str]]]:
    """Paragraphs, those of code without their indentation; what follows each other is one."""
    found = [
        [*lines]
        for has_text, lines in groupby(text.splitlines(), lambda line: bool(line.strip()))
        if has_text
    ]
    for is_code, parts in groupby(found, lambda lines: lines[0].startswith("  ")):
        if not is_code:
            yield from ((False, lines) for lines in parts)
            continue
        joined = [line.removeprefix("  ") for lines in parts for line in [*lines, ""]]
        yield True, joined[:-1]


def as_on_github(text: str) -> str:
    """Markdown that Python-Markdown reads as GitHub reads the one given.

    A list may follow a paragraph without an empty line between, which would make it a part of that;
    and in a table's cells code escapes its pipes, which would show the backslash.
    """
    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        before = lines[-1] if lines else ""
        if not is_code and _ITEM.match(line) and before.strip() and not _IN_LIST.match(before):
            lines.append("")
        is_code ^= line.lstrip().startswith("```")
        if not is_code and line.startswith("|"):
            line = _CODE.sub(lambda span: span[0].replace(r"\|", "|"), line)
        lines.append(line)
    return "\n".join([*lines, ""])
