"""How long a run may be: in time, epochs, images or steps."""

import dataclasses
import math
import re

from distill.errors import UserError
from distill.train.progress import format_seconds

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
# Such as 2hours or 30min, in one letter.
_UNIT = re.compile(r"(?<=\d)(seconds?|secs?|minutes?|mins?|hours?|hrs?|days?)(?![a-z])")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_BARE = re.compile(r"[1-9]\d{,8}")
_COUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*(epoch|image|step)s?")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to train; exactly one of the first four is given."""

    seconds: float | None = None
    """Of training, evaluations on the way and compilation among it."""
    epochs: float | None = None
    images: int | None = None
    steps: int | None = None
    most_epochs: float | None = None
    """Of a run by `seconds` that nobody asked for: it ends after so many epochs at the latest."""

    @property
    def described(self) -> str:
        """Such as `30:00` or `20 epochs`."""
        if self.seconds is not None:
            return format_seconds(self.seconds)
        for name in ("epochs", "images", "steps"):
            if (value := getattr(self, name)) is not None:
                return f"{value:,g} {name}" if isinstance(value, float) else f"{value:,} {name}"
        raise AssertionError("a budget is of something")

    def length(self, step_seconds: float, batch_size: int, images: int, spare: float = 0.0) -> int:
        """Steps that are within the budget, at least 1; rounded as a run's config rounds.

        Args:
          step_seconds: of one step, as it was measured.
          batch_size: images in a step.
          images: to train on.
          spare: seconds of the budget that no step gets.
        """
        an_epoch = images / batch_size
        if self.steps is not None:
            return max(self.steps, 1)
        if self.images is not None:
            return max(self.images // batch_size, 1)
        if self.epochs is not None:
            return max(int(self.epochs * an_epoch), 1)
        assert self.seconds is not None
        found = int(max(self.seconds - spare, 0) / step_seconds)
        if self.most_epochs is not None:
            found = min(found, math.ceil(self.most_epochs * an_epoch))
        return max(found, 1)


def read_budget(text: str) -> Budget:
    """The budget that a text says, such as `30m`, `1h30m`, `20epochs`, `50000images`, `800steps`.

    Raises:
      UserError: for any other text, or nothing of something.
    """
    plain = _UNIT.sub(lambda match: match[1][0], text.strip().lower().replace(" ", ""))
    found = None
    if _TIME.fullmatch(plain):
        found = Budget(seconds=sum(float(n) * _SECONDS[unit] for n, unit in _PART.findall(plain)))
    elif match := _COUNT.fullmatch(plain):
        number, unit = float(re.sub("[_,]", "", match[1])), match[2]
        if unit == "epoch":
            found = Budget(epochs=number)
        elif number == int(number):
            found = Budget(**{f"{unit}s": int(number)})
    if found is None or not (found.seconds or found.epochs or found.images or found.steps):
        guess = f"; did you mean --budget={plain}m, minutes?" if _BARE.fullmatch(plain) else ""
        raise UserError(
            f"--budget is {text!r}; expected a time such as 90s, 30m, 2h or 1h30m, or a length "
            f"such as 20epochs, 50000images or 800steps{guess}"
        )
    return found
