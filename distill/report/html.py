"""HTML pages that need no other file: styles, script and figures are inside.

Whatever is given as text is escaped; what may be HTML says so. A page forbids by its
Content-Security-Policy whatever is not in it: the network, and scripts but its own.
"""

import base64
import dataclasses
import hashlib
import html
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.report.script import SCRIPT
from distill.report.style import STYLE
from distill.unwritten import whole_or_not

if TYPE_CHECKING:
    # Pages without such figures are written without Matplotlib, which takes a second to import.
    from matplotlib.figure import Figure

# From so many sections on, a page lists them.
_CONTENTS = 4
# What begins a chart.
_CHART = '<figure class="chart'


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page that its contents list."""

    heading: str
    content: str
    """HTML."""


Part = str | Section
"""Of a page; a text is HTML."""


def page(
    title: str, *parts: Part, about: str = "", scripts: Sequence[str] = (), network: bool = False
) -> str:
    """A whole page.

    Args:
      title: of the page, also its heading.
      *parts: from top to bottom.
      about: HTML below the heading.
      scripts: that run after the one that reads charts out, where there are any.
      network: whether scripts may ask the server that the page comes from.
    """
    sections = [one for one in parts if isinstance(one, Section)]
    listed = len(sections) >= _CONTENTS
    number = itertools.count(1)
    body = "\n".join(
        part if isinstance(part, str) else _numbered(part, next(number)) for part in parts
    )
    if scripts or _CHART in body:
        scripts = (SCRIPT, *scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts, network)}">'
        '<link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<div class="frame{" with-contents" if listed else ""}">'
        f"{_contents(sections) if listed else ''}"
        f"<header><h1>{html.escape(title)}</h1>{about}</header>\n<main>{body}</main></div>"
        + "".join(f"<script>{one}</script>" for one in scripts)
        + "</body></html>\n"
    )


def policy(scripts: Sequence[str], network: bool = False) -> str:
    """The Content-Security-Policy of a page with these scripts and no other."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in scripts
    )
    allowed = hashes or "'none'"
    connect = "connect-src 'self'; " if network else ""
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        f"{connect}base-uri 'none'; form-action 'none'"
    )


def _contents(sections: Sequence[Section]) -> str:
    items = "".join(
        f'<li><a href="#part-{number}">{html.escape(one.heading)}</a></li>'
        for number, one in enumerate(sections, 1)
    )
    return f'<nav class="contents" aria-label="Contents"><ul>{items}</ul></nav>'


def _numbered(one: Section, number: int) -> str:
    return (
        f'<section aria-labelledby="part-{number}"><h2 id="part-{number}">'
        f"{html.escape(one.heading)}</h2>\n{one.content}</section>"
    )


def rendered(one: Section) -> str:
    """A section that is no part of a page's contents."""
    return f"<section><h2>{html.escape(one.heading)}</h2>\n{one.content}</section>"


def text(content: str) -> str:
    """Plain text as HTML."""
    return html.escape(content)


def section(heading: str, *content: str) -> Section:
    """A heading and HTML below it."""
    return Section(heading, "\n".join(content))


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def card(what: str, value: str, *beside: str) -> str:
    """A figure that is to be seen first, of `cards`; all is plain text."""
    more = "".join(f'<div class="beside">{html.escape(one)}</div>' for one in beside if one)
    return (
        f'<li><div class="what">{html.escape(what)}</div>'
        f'<div class="value">{html.escape(value)}</div>{more}</li>'
    )


def cards(*some: str) -> str:
    """Cards side by side, as far as there is room."""
    return f'<ul class="cards">{"".join(some)}</ul>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text; the first column is left-aligned, a cell's second line is small."""
    return f'<div class="scroll" tabindex="0">{_table(header, rows)}</div>'


def wide_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of which, where the page is narrow, the first column stays in view."""
    return f'<div class="scroll wide" tabindex="0">{_table(header, rows)}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text):
        first, newline, second = text.partition("\n")
        small = f"<br><small>{html.escape(second)}</small>" if newline else ""
        return html.escape(first) + small

    # What is empty heads nothing.
    head = "".join(f'<th scope="col">{cell(c)}</th>' if c else "<td></td>" for c in header)
    body = "".join("<tr>" + "".join(f"<td>{cell(c)}</td>" for c in r) + "</tr>" for r in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def details(summary: str, *content: str, key: str = "") -> str:
    """HTML that is shown when a reader asks for it.

    Args:
      summary: what is always shown.
      *content: HTML.
      key: by which a page that changes finds it again.
    """
    named = f' data-key="{html.escape(key)}"' if key else ""
    return (
        f"<details{named}><summary>{html.escape(summary)}</summary>\n"
        + "\n".join(content)
        + "</details>"
    )


def preformatted(text: str) -> str:
    """Text as it is."""
    return f'<pre tabindex="0">{html.escape(text)}</pre>'


def figure(drawing: "Figure", caption: str) -> str:
    """A figure embedded as PNG."""
    data = base64.b64encode(_png(drawing)).decode()
    text = html.escape(caption)
    return (
        f'<figure><img class="drawing" alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _png(drawing: "Figure") -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return buffer.getvalue()


def write(path: Path, content: str) -> Path:
    """Writes a page so that a reader finds the old one or the new, never half."""
    # A path in it may have been read in a locale that could not decode it.
    temporary = path.with_name(f".{path.name}.tmp")
    with whole_or_not(temporary, path):
        temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
        return temporary.replace(path)
