"""What a person sees of a run while it runs."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from distill.parallel import distributed
from distill.parallel.printed import PRINTED, say
from distill.terminal import TERMINAL, columns

# Seconds between two looks at how far a run is.
_PATIENCE = 0.1

# Columns of a bar.
_SHORTEST, _LONGEST = 8, 32

_SHORT = {
    "captions": "cap",
    "cosine": "cos",
    "embedding": "emb",
    "euclidean": "eucl",
    "layers": "lay",
    "sigmoid": "sig",
    "similarities": "sim",
    "softmax": "soft",
    "texts": "txt",
    "tokens": "tok",
}

MATTERS = (
    "accuracy",
    "agreement",
    "loss",
    "cross_entropy",
    "mean_iou",
    "rmse",
    "image_to_text@1",
    "text_to_image@1",
    "clean_accuracy",
    "mean_accuracy",
    "j_and_f",
)
"""What is told of an evaluation first; of one that finds none of these, it is its first figure."""


class Progress:
    """How far a run is: steps, loss, images/s, the share of time spent waiting for data, and ETA.

    On a terminal it is one live line with a bar, drawn again as steps are done; elsewhere a line
    each time that metrics are logged. Only the primary process prints.

    Args:
      name: what lines call the run.
      total_steps: of the run.
      left: tells after a step how many seconds the run has to go.
      terms: by learner, the weights of its loss's terms, which are shown if there are several.
    """

    def __init__(
        self,
        name: str,
        total_steps: int,
        left: Callable[[int], float],
        terms: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ):
        self._name, self._total, self._left, self._terms = name, total_steps, left, terms
        # What is known since the last line: the figures, and when the run is to end.
        self._parts: list[_Part] = []
        self._ends: float | None = None
        self._drawn = -math.inf

    def show(self, step: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Tells each learner's loss, from its row of metrics, and the speed."""
        row = next(iter(rows.values()))
        parts = []
        for name, one in rows.items():
            whose = "loss" if len(rows) == 1 else name
            parts.append(_Part(f"{whose} {one['train/loss']:.4f}"))
            for text in _terms(self._terms.get(name, {}), one):
                parts.append(_Part(text, 2))
        self.line(step, row["train/images_per_second"], row["train/data_wait"], parts)

    def line(
        self,
        step: int,
        images_per_second: float,
        data_wait: float,
        news: Sequence["_Part"] = (),
    ) -> None:
        """Tells the speed and the data's share of the time, with `news` before it."""
        if not distributed.is_primary():
            return
        remaining = self._left(step)
        self._ends = time.perf_counter() + remaining
        self._parts = [
            *news,
            _Part(f"{images_per_second:,.0f} images/s", 3),
            _Part(f"data wait {data_wait:.0%}", 4),
        ]
        told = [part.text for part in self._parts]
        done = f"{self._name} {format_steps(step, self._total)}"
        line = "  ".join([done, *told, f"ETA {format_seconds(remaining)}"])
        if TERMINAL.can_erase and step < self._total:
            self._draw(step, self._parts)
            PRINTED.info(line)
        else:
            self.close()
            say(line)

    def tick(self, step: int) -> None:
        """On a terminal, shows that a step was begun, now and then."""
        now = time.perf_counter()
        if now - self._drawn >= _PATIENCE and step < self._total:
            self._draw(step, self._parts)

    def doing(self, step: int, what: str) -> None:
        """On a terminal, shows what the run does between two steps."""
        self._draw(step, [_Part(what)])

    def close(self) -> None:
        """Takes the live line away."""
        if distributed.is_primary():
            TERMINAL.clear()

    def _draw(self, step: int, parts: Sequence["_Part"]) -> None:
        if not TERMINAL.can_erase or not distributed.is_primary():
            return
        self._drawn = time.perf_counter()
        parts = [_Part(format_steps(step, self._total)), *parts]
        if self._ends is not None:
            left = max(self._ends - self._drawn, 0)
            parts.append(_Part(f"ETA {format_seconds(left)}", 1))
        TERMINAL.show(_fitted(self._name, step / self._total, parts, TERMINAL.width - 1))


class _Part(NamedTuple):
    """A part of the live line."""

    text: str
    rank: int = 0
    """Where there is no room for all, the highest are left out first."""


def _terms(weights: Mapping[str, float], row: Mapping[str, float]) -> Iterator[str]:
    """What each of several terms adds to the loss, by a short name."""
    if len(weights) > 1:
        for name, weight in weights.items():
            if (value := row.get(f"train/{name}")) is not None:
                yield f"{short_name(name)} {format_figure(f'train/{name}', weight * value)}"


def _fitted(name: str, share: float, parts: Sequence[_Part], width: int) -> str:
    """A line with a bar in front, of those parts that have room beside it."""

    def length(kept: Sequence[_Part]) -> int:
        return columns(name) + sum(2 + len(part.text) for part in kept)

    kept = list(parts)
    while most := max(part.rank for part in kept):
        # When the run ends is worth more than the bar, and the bar more than what else there is.
        if length(kept) + (2 + _SHORTEST) * (most > 1) <= width:
            break
        last = max(place for place, part in enumerate(kept) if part.rank == most)
        del kept[last]
    room = min(width - length(kept) - 2, _LONGEST)
    # So that it does not change its length with each digit beside it.
    bar = [_bar(share, room // _SHORTEST * _SHORTEST)] if room >= _SHORTEST else []
    return "  ".join([TERMINAL.painted(name, "bold"), *bar, *(part.text for part in kept)])


def _bar(share: float, width: int) -> str:
    done = int(share * width)
    full, empty = ("━", "─") if TERMINAL.can_show("━─") else ("#", "-")
    rest = TERMINAL.painted(empty * (width - done), "dim")
    return TERMINAL.painted(full * done, "cyan") + rest


def short_name(term: str) -> str:
    """Of a term of the loss, such as emb_cos of embedding_cosine."""
    return "_".join(_SHORT.get(part, part) for part in term.split("_"))


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


def format_headline(scores: Mapping[str, float], wanted: str | None = None) -> str:
    """What matters most of each evaluation, such as val/accuracy 0.9792  val/agreement 0.9875.

    Args:
      scores: of one evaluation or several, as `NAME/FIGURE`.
      wanted: a figure that is told in any case.
    """
    told = []
    for head in dict.fromkeys(name.partition("/")[0] for name in scores):
        own = [name for name in scores if name.partition("/")[0] == head]
        main = [name for name in own if name.partition("/")[2] in MATTERS] or own[:1]
        told += [name for name in own if name in main or name == wanted]
    return "  ".join(f"{name} {format_figure(name, scores[name])}" for name in told)


def format_figure(name: str, value: float | str) -> str:
    """A figure as people read it: metrics to four places, counts in groups, text as it is."""
    if isinstance(value, str):
        return value
    if "/" not in name:
        return f"{value:,}"
    # Four places would make nothing of a penalty of 1e-5.
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"
