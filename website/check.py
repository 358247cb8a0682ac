"""Whether a built site asks only itself for anything.

  python -m website.check build/docs

Links that a reader may follow count as little as what a script would only load for what no page
has (Material's draws diagrams).
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# What a browser loads by itself, of any element but links, whose `href` it follows when asked to.
_LOADED = {"src", "srcset", "poster", "data", "background", "action"}
_OF_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^"')\s;]+""")
_ELSEWHERE = re.compile(r"(?:^|[\s,])(?:https?:)?//")


class _Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            loaded = name in _LOADED or (name == "href" and tag not in ("a", "area"))
            if value and loaded and _ELSEWHERE.search(value):
                self.found.append(f'<{tag} {name}="{value}">')
            if value and name == "style":
                self.found += _OF_STYLE.findall(value)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += _OF_STYLE.findall(data)


def asked_of_others(site: Path) -> Iterator[tuple[Path, str]]:
    """What the pages and styles of a site load from other hosts, each with the file that does."""
    for file in sorted(site.rglob("*.html")):
        page = _Loads()
        page.feed(file.read_text(encoding="utf-8"))
        yield from ((file, one) for one in page.found)
    for file in sorted(site.rglob("*.css")):
        for one in _OF_STYLE.findall(file.read_text(encoding="utf-8")):
            yield file, one


def main(site: Path) -> int:
    """Says what is loaded from elsewhere; 1 if anything is, or if there is no site."""
    if not (site / "index.html").is_file():
        print(f"{site} holds no site", file=sys.stderr)
        return 1
    found = list(asked_of_others(site))
    for file, one in found:
        print(f"{file}: {one}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
