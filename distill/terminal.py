"""What a terminal shows."""

import io
import os
import re
import shutil
import sys
import threading
import unicodedata
from collections.abc import Sequence

CLEAR = "\r\033[K"
"""Erases a line from its begin to its end (ECMA-48)."""

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_CODE = re.compile(r"\033\[[0-9;]*m")
# What a line says of itself, after what it is of.
_KIND = re.compile(r"^((?:[^:\n]{1,60}: )?)(warning|error)(?=: )")
_COLOUR_OF = {"warning": "yellow", "error": "red"}


def accept_any_text() -> None:
    """Lets standard output show `?` for what its encoding lacks, in place of raising.

    Tables have lines and names have letters that a terminal of the locale C does not know.
    Standard error never raises.
    """
    # Tests, and programs that call this one, put other objects in its place.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


class Terminal:
    """Standard error as a person sees it: lines that stay, and below them at most one that is live.

    The live line is drawn again and again, and is there only on a terminal that can erase a line;
    elsewhere nothing is written but lines that stay, without any codes. The cursor rests at its
    begin, so that what others write there at least begins a line.
    """

    def __init__(self):
        self._live = ""
        # Lines also come from threads.
        self._lock = threading.RLock()

    @property
    def can_erase(self) -> bool:
        """Whether standard error is a terminal that understands codes; TERM=dumb does not."""
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def has_colour(self) -> bool:
        """The same, unless the user wants none (https://no-color.org)."""
        return self.can_erase and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """Columns of the terminal, as wide as it is by now."""
        try:
            return os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns

    def can_show(self, text: str) -> bool:
        """Whether standard error's encoding has these letters."""
        try:
            text.encode(getattr(sys.stderr, "encoding", None) or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    def painted(self, text: str, *styles: str) -> str:
        """The text in colours and weights such as `bold`; as it is where there are none."""
        if not styles or not text or not self.has_colour:
            return text
        return f"\033[{';'.join(_STYLES[style] for style in styles)}m{text}\033[0m"

    def print(self, text: str, *styles: str) -> None:
        """Writes lines that stay; "warning:" and "error:" at their begin have their colour."""
        painted = self.painted(text, *styles)
        if not styles and (found := _KIND.match(text)):
            of, kind = found.groups()
            painted = f"{of}{self.painted(kind, _COLOUR_OF[kind])}{text[found.end() :]}"
        with self._lock:
            clear = CLEAR if self.can_erase else ""
            print(f"{clear}{painted}", file=sys.stderr, flush=True)
            self._draw()

    def show(self, line: str) -> None:
        """Puts a live line below all others, cut to the terminal's width."""
        with self._lock:
            self._live = line
            self._draw()

    def clear(self) -> None:
        """Takes the live line away."""
        with self._lock:
            if self._live and self.can_erase:
                print(CLEAR, end="", file=sys.stderr, flush=True)
            self._live = ""

    def give_way(self) -> None:
        """Erases the live line, for others to write there; the next line draws it again."""
        with self._lock:
            if self._live and self.can_erase:
                print(CLEAR, end="", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        # In the last column, some terminals begin the next line.
        if self._live and self.can_erase:
            line = cut(self._live, self.width - 1)
            print(f"{CLEAR}{line}\r", end="", file=sys.stderr, flush=True)


TERMINAL = Terminal()


def cut(line: str, width: int) -> str:
    """As much of a line as has room in so many columns; codes of colours take none."""
    room, kept, place = width, [], 0
    for code in [*_CODE.finditer(line), None]:
        for letter in line[place : code.start() if code else len(line)]:
            room -= columns(letter)
            if room >= 0:
                kept.append(letter)
        if code:
            kept.append(code.group())
            place = code.end()
    return "".join(kept)


def columns(text: str) -> int:
    """How wide a text without codes is on a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is left-aligned and whose others are right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells):
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([f"{first[0]:<{first[1]}}", *(f"{c:>{w}}" for c, w in rest)])

    return "\n".join([line(header), "  ".join("─" * w for w in widths), *map(line, rows)])
