"""A run as it stands, read from its workdir alone: state, progress, curves.

Nothing is written and nothing is locked, so that whoever watches does not disturb the run. What is
half written, gone or not there yet is shown as such.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import struct
import sys
import time
import urllib.parse
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distill.config import resolve
from distill.errors import UserError
from distill.json_files import read_json
from distill.report import curves, html
from distill.report.headline import human
from distill.train import metrics, train_log
from distill.train.config import TrainConfig
from distill.train.progress import format_figure, format_seconds, format_steps
from distill.train.workdir import read_images

State = Literal["not begun", "running", "stopped", "finished"]

# Seconds after the last line until which a run may be at work where its lock says nothing, and
# where it says that nobody is: another machine's lock may not be seen here.
_PATIENCE, _PATIENCE_UNLOCKED = 180.0, 20.0

_LOG_LINES = 30
_FILES = ("config.json", "summary.json", metrics.FILE, train_log.FILE, "report.html")

_SAID: dict[State, str] = {
    "not begun": "No run has begun in this directory yet.",
    "running": "",
    "stopped": "No process is at work here. The same command as before goes on with the run.",
    "finished": "",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """What the workdir of one run says at one moment."""

    state: State
    rows: list[dict[str, float]]
    """Of metrics.jsonl."""
    steps: int | None
    """The run's length; None where that cannot be told."""
    batch_size: int | None
    written: float | None
    """When metrics were last written, in seconds since the epoch."""
    log: tuple[str, ...]
    """The last lines of train.log."""
    has_report: bool

    @property
    def step(self) -> int:
        """The last one of which there are metrics; 0 before the first."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def seconds_left(self) -> float | None:
        """At the mean speed of the last steps, without evaluations; None where nothing says."""
        _, rates = metrics.series(self.rows[-10:], "train/images_per_second")
        if self.state != "running" or None in (self.steps, self.batch_size) or not len(rates):
            return None
        rate = float(np.median(rates))
        assert self.steps is not None and self.batch_size is not None
        return max(self.steps - self.step, 0) * self.batch_size / rate if rate > 0 else None


def runs_in(workdir: Path) -> dict[str, Path]:
    """The runs to show: of several students each one's workdir by name, else the workdir itself."""
    if not (workdir / "config.json").exists():
        with contextlib.suppress(OSError):
            below = sorted(one.parent for one in workdir.glob("*/config.json"))
            if below:
                return {one.name: one for one in below}
    return {workdir.name: workdir}


def watched(workdir: Path) -> Watched:
    """Reads what there is."""
    config = _config(workdir)
    rows: list[dict[str, float]] = []
    # A run that is begun again may delete a file between two looks.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        rows = [row for row in metrics.read(workdir) if isinstance(row, dict) and "step" in row]
    train, steps, batch = config.get("train"), None, None
    if isinstance(train, dict):
        with contextlib.suppress(UserError, ValueError):
            read = resolve(TrainConfig, train)
            batch = read.batch_size
            steps = read.steps(read_images(workdir, "train") or 0)
    return Watched(
        state=_state(workdir, bool(config), bool(rows)),
        rows=rows,
        steps=steps,
        batch_size=batch,
        written=_changed(workdir / metrics.FILE),
        log=_last_lines(workdir / train_log.FILE),
        has_report=(workdir / "report.html").is_file(),
    )


def version(runs: Mapping[str, Path]) -> str:
    """Changes where anything that is shown does."""
    said = []
    for name, workdir in runs.items():
        for file in _FILES:
            with contextlib.suppress(OSError):
                stat = (workdir / file).stat()
                said.append(f"{name} {file} {stat.st_ino} {stat.st_mtime_ns} {stat.st_size}")
        said.append(f"{name} {is_locked(workdir)}")
    return hashlib.sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def status(runs: Mapping[str, Watched], now: float | None = None) -> str:
    """HTML: the state of each run, how far it is, and when it was last heard of."""
    now = time.time() if now is None else now
    return "".join(_status(name if len(runs) > 1 else "", one, now) for name, one in runs.items())


def content(runs: Mapping[str, Watched]) -> str:
    """HTML: figures and curves of each run, and beside each other where there are several."""
    if len(runs) == 1:
        ((name, only),) = runs.items()
        return _content(name, only)
    logged = {name: one.rows for name, one in runs.items()}
    shared = [
        name for name in _COMPARED if any(name in row for run in logged.values() for row in run)
    ]
    drawn = curves.compared(logged, shared)
    found = html.rendered(html.section("Beside each other", drawn)) if drawn else ""
    for name, one in runs.items():
        found += html.details(name, _content(name, one), key=f"run {name}")
    return found


_COMPARED = ("train/loss", "val/accuracy", "val/agreement", "val/kl", "val/cka")


def _status(name: str, one: Watched, now: float) -> str:
    heading = f"<strong>{escape(name)}</strong> " if name else ""
    said = [f'{heading}<span class="badge {one.state.replace(" ", "-")}">{one.state}</span>']
    if one.steps:
        said.append(f"step {format_steps(one.step, one.steps)}")
    elif one.step:
        said.append(f"step {one.step:,}")
    if (left := one.seconds_left) is not None:
        said.append(f"about {format_seconds(left)} to go, without evaluations")
    if one.written is not None and one.rows:
        said.append(f"last line {format_seconds(max(now - one.written, 0))} ago")
    elif one.state == "running":
        said.append("no step is logged yet")
    bar = ""
    if one.steps:
        label = escape(f"Steps done {name}".strip())
        bar = f'<progress max="{one.steps}" value="{one.step}" aria-label="{label}"></progress>'
    text = html.paragraph(_SAID[one.state]) if _SAID[one.state] else ""
    return f'<p class="status">{"".join(f"<span>{part}</span>" for part in said)}</p>{bar}{text}'


def _content(name: str, one: Watched) -> str:
    parts = []
    if cards := _cards(one):
        parts.append(f'<div class="lead">{html.cards(*cards)}</div>')
    if one.has_report:
        where = urllib.parse.quote(name, safe="", errors="surrogateescape")
        link = f'<p><a href="/report/{where}">The page of the finished run</a></p>'
        parts.append(f'<div class="lead">{link}</div>')
    sections = [
        html.section("Learning curves", *curves.learning_curves(one.rows)),
        html.section("Steps and speed", curves.step_curves(one.rows)),
    ]
    parts += [html.rendered(section) for section in sections if section.content]
    if one.log:
        log = html.details(
            f"The last {len(one.log)} lines of train.log",
            html.preformatted("\n".join(one.log)),
            key=f"log {name}",
        )
        parts.append(html.rendered(html.section("Log", log)))
    return "\n".join(parts)


def _cards(one: Watched) -> list[str]:
    found = []
    for metric, what in (
        ("train/loss", "Training loss"),
        ("val/accuracy", "Validation accuracy"),
        ("val/agreement", "Agreement with the teacher"),
        ("val/mean_iou", "Mean IoU"),
        ("train/images_per_second", "Images per second"),
        ("train/data_wait", "Data wait"),
    ):
        steps, values = metrics.series(one.rows, metric)
        if not len(values) or not np.isfinite(values[-1]):
            continue
        value = float(values[-1])
        text = format_figure(metric, value)
        if metric == "train/images_per_second":
            text = human(value)
        elif metric.endswith(("accuracy", "agreement", "data_wait")):
            text = f"{value:.2%}"
        found.append(html.card(what, text, f"step {int(steps[-1]):,}"))
    return found


def _config(workdir: Path) -> dict[str, Any]:
    with contextlib.suppress(UserError):
        read = read_json(workdir / "config.json")
        return read if isinstance(read, dict) else {}
    return {}


def _state(workdir: Path, has_config: bool, has_rows: bool) -> State:
    if (workdir / "summary.json").is_file():
        return "finished"
    if not has_config and not has_rows:
        return "not begun"
    locked = is_locked(workdir)
    if locked:
        return "running"
    times = [_changed(workdir / name) for name in ("config.json", metrics.FILE, train_log.FILE)]
    age = time.time() - max((one for one in times if one is not None), default=0.0)
    return "running" if age < (_PATIENCE if locked is None else _PATIENCE_UNLOCKED) else "stopped"


def is_locked(workdir: Path) -> bool | None:
    """Whether another process holds the workdir; None where that cannot be asked.

    It is asked without taking the lock (F_GETLK). In a process that holds the lock itself, asking
    would give it up, as POSIX has it.
    """
    if sys.platform != "linux":
        return None
    try:
        file = os.open(workdir / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, asked)
        return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK
    except OSError:
        return None
    finally:
        os.close(file)


def _changed(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _last_lines(file: Path) -> tuple[str, ...]:
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(size - 20_000, 0))
            text = opened.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-_LOG_LINES:])
