"""Pages as a browser has them, as far as what is asked of every one of them goes."""

import itertools
import json
import re
from html.parser import HTMLParser

_EMPTY = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page taken apart; what is wrong with it is an error.

    Elements close in the order in which they open, ids are there once, headings begin with one h1
    and leave out no level, pictures and drawings have alternative texts, and nothing is fetched.
    """

    def __init__(self, content: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.data: list[object] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)
        self.close()
        assert not self._open, self._open
        self._check()

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        assert len(named) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, named))
        if tag not in _EMPTY:
            self._open.append((tag, named))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag, f"{opened} is closed by {tag}"

    def handle_data(self, data):
        tag, named = self._open[-1] if self._open else ("", {})
        if tag == "script" and named.get("type") == "application/json":
            self.data.append(json.loads(data))
        elif tag == "script":
            self.scripts.append(data)
        elif tag != "style" and data.strip():
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [named for name, named in self.elements if name == tag]

    def _check(self):
        ids = [named["id"] for _, named in self.elements if "id" in named]
        assert len(ids) == len({*ids})
        levels = [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1 and levels[0] == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        assert all(one.get("alt") for one in self.all("img"))
        drawings = [at for at, (tag, _) in enumerate(self.elements) if tag == "svg"]
        for at in drawings:
            assert self.elements[at][1]["role"] == "img"
            assert [tag for tag, _ in self.elements[at + 1 : at + 3]] == ["title", "desc"]
        for _, named in self.elements:
            assert not [name for name in named if name.startswith("on")]
            for name in ("src", "href"):
                where = named.get(name) or ""
                assert not re.match(r"(https?:)?//|javascript:", where), where
        targets = {one["href"][1:] for one in self.all("a") if (one["href"] or "").startswith("#")}
        assert targets <= {*ids}
        assert {"header", "main"} <= {tag for tag, _ in self.elements}
