"""What a person sees of a run while it runs."""

import sys
import time
from collections.abc import Mapping

from distill.parallel import distributed
from distill.parallel.printed import PRINTED


class Progress:
    """A line with loss, images/s, ETA and the share of time spent waiting for data."""

    def __init__(self, name: str, total_steps: int, start_step: int):
        self._name = name
        self._total = total_steps
        self._start = start_step
        self._began = time.perf_counter()
        self._terminal = sys.stderr.isatty()

    def show(self, step: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Prints the line from each learner's row of metrics; on a terminal it replaces the last.

        Only the primary process prints it.
        """
        row = next(iter(rows.values()))
        loss = f"{row['train/loss']:.4f}"
        if len(rows) > 1:
            loss = "  ".join(f"{name} {one['train/loss']:.4f}" for name, one in rows.items())
        speed = (row["train/images_per_second"], row["train/data_wait"])
        self.line(step, *speed, news=f"loss {loss}  ")

    def line(self, step: int, images_per_second: float, data_wait: float, news: str = "") -> None:
        """Prints the line with `news` in its middle, and the data's share of the time."""
        if not distributed.is_primary():
            return
        elapsed = time.perf_counter() - self._began
        remaining = elapsed / max(step - self._start, 1) * (self._total - step)
        line = (
            f"{self._name} {format_steps(step, self._total)}  {news}"
            f"{images_per_second:,.0f} images/s  "
            f"data wait {data_wait:.0%}  ETA {format_seconds(remaining)}"
        )
        end = "\n" if not self._terminal or step == self._total else ""
        clear = "\r\033[K" if self._terminal else ""
        print(f"{clear}{line}", end=end, file=sys.stderr, flush=True)
        PRINTED.info(line)


def format_steps(step: int, total: int) -> str:
    """Such as 50/600 (8%) or 204,000/1,200,000 (17.0%); 100% only when all is done."""
    # In a run of days, a percent is an hour.
    per_mille = step * 1000 // total
    share = f"{per_mille / 10:.1f}%" if total >= 10_000 else f"{per_mille // 10}%"
    return f"{step:,}/{total:,} ({share})"


def format_seconds(seconds: float) -> str:
    """Such as 45s, 3:20, 2:05:00 or 3d 4h."""
    seconds = round(seconds)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}:{minutes % 60:02d}:{seconds % 60:02d}"
    return f"{minutes}:{seconds % 60:02d}" if minutes else f"{seconds}s"


def format_scores(scores: Mapping[str, float]) -> str:
    """Such as val/accuracy 0.9792  val/kl 0.0428; of several seeds or classes, only the mean."""
    shown = {
        name: value
        for name, value in scores.items()
        if "/seed" not in name and "/per_class/accuracy/" not in name
    }
    return "  ".join(f"{name} {format_figure(name, value)}" for name, value in shown.items())


def format_figure(name: str, value: float | str) -> str:
    """A figure as people read it: metrics to four places, counts in groups, text as it is."""
    if isinstance(value, str):
        return value
    if "/" not in name:
        return f"{value:,}"
    # Four places would make nothing of a penalty of 1e-5.
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"
