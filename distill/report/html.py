"""HTML pages that need no other file: styles and figures are inside."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1d2733; background: #fff; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.2rem; font-size: 1.2rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .35rem .9rem; border-bottom: 1px solid #d9dfe6; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f3f6f9; }
figure { margin: 1rem 0; } figure img { max-width: 100%; }
figcaption { color: #5a6672; font-size: .9rem; }
small, summary { color: #5a6672; }
.wide { overflow-x: auto; font-size: .9rem; }
.wide td, .wide th { white-space: nowrap; padding: .3rem .6rem; }
.wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: #fff; }
@media (max-width: 40rem) { .wide td:first-child { white-space: normal; } }
pre { background: #f3f6f9; padding: 1rem; overflow-x: auto; font-size: .85rem; }
"""


def page(title: str, *sections: str) -> str:
    """A whole page; the sections are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        + "\n".join(sections)
        + "</body></html>\n"
    )


def section(heading: str, *content: str) -> str:
    """A heading and HTML below it."""
    return f"<h2>{html.escape(heading)}</h2>\n" + "\n".join(content)


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text; the first column is left-aligned, a cell's second line is small."""

    def cell(text):
        first, newline, second = text.partition("\n")
        small = f"<br><small>{html.escape(second)}</small>" if newline else ""
        return html.escape(first) + small

    def row(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{cell(c)}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + row(header, "th") + "".join(row(r, "td") for r in rows) + "</table>"


def wide_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    return f'<div class="wide">{table(header, rows)}</div>'


def details(summary: str, *content: str) -> str:
    """HTML that is shown when a reader asks for it."""
    return (
        f"<details><summary>{html.escape(summary)}</summary>\n" + "\n".join(content) + "</details>"
    )


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def figure(drawing: Figure, caption: str) -> str:
    """A figure embedded as PNG."""
    data = base64.b64encode(_png(drawing)).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return buffer.getvalue()


def write(path: Path, content: str) -> Path:
    """Writes a page so that a reader finds the old one or the new, never half."""
    # A path in it may have been read in a locale that could not decode it.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
    return temporary.replace(path)
