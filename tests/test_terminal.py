"""Lines that stay, and one that is live."""

import fcntl
import io
import os
import pty
import re
import subprocess
import sys
import termios
import types

import pytest
from support import REPOSITORY, arguments

import distill.terminal
from distill.terminal import TERMINAL, Terminal, columns, cut


class Screen(io.StringIO):
    """A terminal of no size of its own."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    found = Screen()
    # pytest puts its own in place of sys.stderr once fixtures are made.
    monkeypatch.setattr(distill.terminal, "sys", types.SimpleNamespace(stderr=found))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return found


def shown(written: str, width: int) -> list[str]:
    """What a terminal of so many columns shows, by the few codes that are used."""
    rows, column = [[]], 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.|\n", written, re.DOTALL):
        if part == "\x1b[K":
            del rows[-1][column:]
        elif part == "\r":
            column = 0
        elif part == "\n":
            rows.append([])
            column = 0
        elif not part.startswith("\x1b"):
            if column >= width:
                rows.append([])
                column = 0
            rows[-1][len(rows[-1]) :] = " " * (column - len(rows[-1]))
            rows[-1][column : column + 1] = part
            column += 1
    return ["".join(row) for row in rows]


def test_lines_that_stay_go_above_the_live_one(screen):
    terminal = Terminal()
    terminal.show("bar of one")
    terminal.print("said")
    terminal.show("bar")
    assert shown(screen.getvalue(), 20) == ["said", "bar"]
    terminal.clear()
    terminal.print("the end")
    assert shown(screen.getvalue(), 20) == ["said", "the end", ""]


def test_the_live_line_never_reaches_the_last_column(screen, monkeypatch):
    Terminal().show("a line of more than twenty columns")
    assert shown(screen.getvalue(), 20) == ["a line of more than"]
    monkeypatch.setenv("COLUMNS", "8")
    Terminal().show("\033[1mbold\033[0m and more")
    assert screen.getvalue().endswith("\033[1mbold\033[0m an\r")


def test_others_write_at_the_begin_of_a_line_and_the_next_line_brings_it_back(screen):
    terminal = Terminal()
    terminal.show("bar")
    terminal.give_way()
    print("a library's warning", file=screen)
    terminal.print("said")
    assert shown(screen.getvalue(), 20) == ["a library's warning", "said", "bar"]


@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"TERM": None}, {}],
)
def test_without_a_terminal_that_can_erase_there_are_lines_alone(screen, environment, monkeypatch):
    if not environment:
        monkeypatch.setattr(screen, "isatty", lambda: False)
    for key, value in environment.items():
        monkeypatch.delenv(key) if value is None else monkeypatch.setenv(key, value)
    terminal = Terminal()
    terminal.show("bar")
    terminal.print("warning: said", "bold")
    terminal.clear()
    assert screen.getvalue() == "warning: said\n"


def test_no_color_takes_colours_and_leaves_the_live_line(screen, monkeypatch):
    terminal = Terminal()
    terminal.print("run: warning: mind")
    assert "\033[33mwarning\033[0m: mind" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    screen.truncate(0)
    screen.seek(0)
    terminal.print("error: mind", "bold")
    terminal.show("bar")
    assert screen.getvalue() == "\r\033[Kerror: mind\n\r\033[Kbar\r"


def test_what_only_speaks_of_an_error_keeps_its_colour(screen):
    TERMINAL.print("the mean error: 3")
    TERMINAL.print("http://localhost: warnings: none")
    assert "\033[31m" not in screen.getvalue() and "\033[33m" not in screen.getvalue()


@pytest.mark.parametrize(
    "text, width, kept",
    [
        ("abc", 2, "ab"),
        ("abc", 9, "abc"),
        ("\033[1mabc\033[0m", 1, "\033[1ma\033[0m"),
        ("猫犬", 3, "猫"),
        ("e\u0301a", 1, "e\u0301"),
        ("", 0, ""),
    ],
)
def test_a_line_is_cut_by_columns(text, width, kept):
    assert cut(text, width) == kept
    assert columns(re.sub(r"\033\[\d+m", "", kept)) <= width


def in_a_terminal(*arguments: str, interrupt_at: str | None = None, **environment: str) -> str:
    """What Python writes to a terminal, where Ctrl-C is typed once a text is there."""
    ours, theirs = pty.openpty()
    unset = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**unset, "TERM": "xterm", **environment},
        stdin=theirs,
        stderr=theirs,
        start_new_session=True,
        # Ctrl-C goes to those whose terminal it is.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    written = b""
    # Linux says that there is nobody left to write with an error.
    while part := _read(ours):
        written += part
        if interrupt_at and interrupt_at.encode() in written:
            os.write(ours, b"\x03")
            interrupt_at = None
    os.close(ours)
    assert process.wait(60) == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:
        return b""


RUN = """
import fcntl, struct, sys, termios
from distill.train.progress import Progress
from distill.parallel.printed import say

def run(width, end):
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    terms = {"a": {"kl": 1, "tokens_cosine": 2}}
    progress = Progress("distill", 2000, lambda step: 2000 - step, terms)
    row = {"train/loss": 0.5, "train/kl": 0.3, "train/tokens_cosine": 0.1}
    row |= {"train/images_per_second": 4096, "train/data_wait": 0}
    progress.show(500, {"a": row})
    say("distill: warning: a line while it runs")
    progress.doing(500, "evaluating")
    progress._drawn = 0
    progress.tick(501)
    if end == "closes":
        progress.close()
    if end == "arrives":
        progress.line(2000, 1, 0)
    print("|", end="", file=sys.stderr, flush=True)
    progress.close()

"""
CASES = [*((width, "") for width in (20, 40, 60, 100, 200)), (100, "closes"), (100, "arrives")]


@pytest.fixture(scope="module")
def runs() -> dict[tuple[int, str], list[str]]:
    """The rows of a terminal after a run, by its width and how the run ends."""
    code = RUN + "".join(f"run{case}\n" for case in CASES)
    written = in_a_terminal("-c", code).split("|")
    return {case: shown(text, case[0]) for case, text in zip(CASES, written, strict=False)}


@pytest.mark.parametrize("width", [20, 40, 60, 100, 200])
def test_the_bar_has_one_row_at_any_width(runs, width):
    rows = runs[width, ""]
    said = -(-len("distill: warning: a line while it runs") // width)
    assert "".join(rows[:said]) == "distill: warning: a line while it runs"
    assert len(rows) == said + 1 and rows[-1].startswith("distill  ")
    assert "501/2,000 (25%)"[: max(width - 10, 0)] in rows[-1]
    if width == 200:
        bar = "━" * 8 + "─" * 24
        told = "501/2,000 (25%)  loss 0.5000  kl 0.3000  tok_cos 0.2000  4,096 images/s"
        assert rows[-1].startswith(f"distill  {bar}  {told}  data wait 0%  ETA ")
    if width == 60:
        assert "loss 0.5000" in rows[-1] and "data wait" not in rows[-1]


@pytest.mark.parametrize("end", ["closes", "arrives"])
def test_nothing_is_left_of_the_bar(runs, end):
    *rows, last = runs[100, end]
    assert last == "" and not any("━" in row or "evaluating" in row for row in rows)
    assert len(rows) == (1 if end == "closes" else 2)


def test_a_terminal_without_the_letters_of_a_bar_gets_others():
    code = RUN + "run(100, '')"
    written = in_a_terminal("-c", code, PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert "##------" in written and "\\u" not in written and "\033[1m" not in written


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_but_what_it_says(tmp_path):
    run = arguments("pretrain/digits.py", tmp_path, train__total_steps=100_000)
    written = in_a_terminal("-m", "pipelines.pretrain", *run, interrupt_at="  loss ")
    assert "━" in written or "─" in written
    *rows, said, last = shown(written, 1000)
    assert said.startswith("stopped by SIGINT after step ") and last == ""
    assert not any(letter in row for row in rows for letter in "━─") and "^C" not in "".join(rows)
