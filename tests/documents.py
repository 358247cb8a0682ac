"""The documents of the repository, as their tests read them: blocks of code, links, anchors."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support import REPOSITORY

DOCS = REPOSITORY / "docs"

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,})(?P<language>[a-z]*) *$")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$")
_NO_PART_OF_A_WORD = re.compile(r"[^\w\s-]")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int
    """Of the file, its first one being 1."""


def pages() -> list[Path]:
    """Every Markdown page of docs/."""
    return sorted(DOCS.rglob("*.md"))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, inside, language, start, marks = [], [], "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if marks and line.strip() == marks:
            found.append(Block(language, "\n".join(inside) + "\n", start))
            marks = ""
        elif marks:
            inside.append(line)
        elif fence:
            marks, language, inside, start = fence["marks"], fence["language"], [], number + 1
    return found


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are in no fenced block, by number, and without what is code in them."""
    marks = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if marks:
            marks = "" if line.strip() == marks else marks
        elif fence:
            marks = fence["marks"]
        else:
            yield number, re.sub(r"(`+)(.+?)\1", lambda code: "·" * len(code[0]), line)


def links(text: str) -> Iterator[tuple[int, str]]:
    """The targets of a page's links and images, each with its line."""
    for number, line in prose(text):
        for link in _LINK.finditer(line):
            yield number, link["target"]


def anchors(text: str) -> set[str]:
    """What a page's headings are linked by: on GitHub and, by the same rule, on the site."""
    found: set[str] = set()
    marks = ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if marks:
            marks = "" if line.strip() == marks else marks
        elif fence:
            marks = fence["marks"]
        elif heading := _HEADING.match(line):
            slug = _slug(re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading["text"]))
            found.add(slug if slug not in found else f"{slug}-1")
    return found


def _slug(heading: str) -> str:
    """As GitHub makes it."""
    text = unicodedata.normalize("NFC", heading).lower()
    return re.sub(r"\s", "-", _NO_PART_OF_A_WORD.sub("", text).strip())
