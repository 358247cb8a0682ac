"""Durations, which a config may give in steps, epochs, examples or percent of the run."""

import dataclasses
from typing import Any

from distill.bounds import MOST_STEPS
from distill.errors import GivenTwice

UNITS = ("steps", "epochs", "examples", "percent")


@dataclasses.dataclass(frozen=True)
class RunLength:
    """What turns a duration into steps; what is unknown is None."""

    total_steps: int
    batch_size: int | None = None
    images: int | None = None
    """Training images, one epoch."""


def check_durations(config: Any, *names: str) -> None:
    """Checks a config's fields NAME_steps, NAME_epochs, NAME_examples and NAME_percent.

    Raises:
      ValueError: if a duration is given in two units.
    """
    for name in names:
        given = _given(config, name)
        if len(given) > 1:
            keys = " and ".join(f"{name}_{unit}" for unit in given)
            raise GivenTwice(f"give one of {keys}", [f"{name}_{unit}" for unit in given])


def steps(config: Any, name: str, length: RunLength, default: int) -> int:
    """A duration in whole steps, rounded to the nearest; `default` where it is not given.

    Raises:
      ValueError: if the unit needs a batch size or an epoch that is not known, or there are more
        steps than can be counted.
    """
    for unit, value in _given(config, name).items():
        if unit == "steps":
            return int(value)
        if unit == "percent":
            return round(length.total_steps * value / 100)
        each = length.images if unit == "epochs" else 1
        if length.batch_size is None or each is None:
            raise ValueError(f"{name}_{unit} needs data to count; give {name}_steps")
        found = round(value * each / length.batch_size)
        if found > MOST_STEPS:
            raise ValueError(
                f"{name}_{unit} of {value:g} is {found:,} steps; expected at most {MOST_STEPS:,}"
            )
        return found
    return default


def _given(config: Any, name: str) -> dict[str, float]:
    values = {unit: getattr(config, f"{name}_{unit}", None) for unit in UNITS}
    return {unit: value for unit, value in values.items() if value is not None}
