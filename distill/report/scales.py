"""From values to places in a drawing, with the ticks that people expect."""

import dataclasses
import math
from collections.abc import Sequence

Ends = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Maps a value to a place in a drawing."""

    domain: Ends
    """The lowest and the highest value."""
    range: Ends
    """Where they stand."""
    ticks: Sequence[float]
    """Values to name."""
    log: bool = False
    """Whether equal distances are equal ratios."""

    def at(self, value: float) -> float:
        """Where a value stands."""
        slope, offset, _ = self.coefficients()
        return slope * (math.log10(value) if self.log else value) + offset

    def coefficients(self) -> tuple[float, float, bool]:
        """Slope and offset of the place over the value, or over its logarithm to base 10."""
        low, high = map(math.log10, self.domain) if self.log else self.domain
        slope = (self.range[1] - self.range[0]) / (high - low)
        return slope, self.range[0] - slope * low, self.log


def linear(domain: Ends, places: Ends, *, nice: bool = True, most: int = 5) -> Scale:
    """A scale of equal distances.

    Args:
      domain: the lowest and the highest value; equal ones are moved apart.
      places: where they stand.
      nice: whether the scale may begin and end at ticks beyond them.
      most: about so many ticks.
    """
    low, high = map(float, domain)
    if low == high:
        apart = abs(low) / 10 or 1.0
        low, high = low - apart, high + apart
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Of a product such as 3 · 0.1, the last digit is noise.
    ticks = [float(f"{n * step:.12g}") for n in range(first, last + 1)]
    if nice:
        low, high = ticks[0], ticks[-1]
    return Scale((low, high), places, [one for one in ticks if low <= one <= high])


def logarithmic(domain: Ends, places: Ends) -> Scale:
    """A scale of equal ratios, of positive values, that begins and ends at them."""
    low, high = domain
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    every = max(1, round(decades / 6))
    ticks = [
        float(f"{factor}e{power}")
        for power in range(first, last + 1, every if factors == (1,) else 1)
        for factor in factors
    ]
    return Scale(domain, places, [one for one in ticks if low <= one <= high], log=True)


def brief(value: float, percent: bool = False, *, full: bool = False) -> str:
    """A number as a chart has it.

    Args:
      value: finite.
      percent: whether it is a share.
      full: whether thousands are spelt out.
    """
    if percent:
        return f"{100 * value:.2f}%" if full else f"{100 * value:.3g}%"
    if value == 0:
        return "0"
    size = abs(value)
    if not full:
        for power, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
            if size >= power:
                return f"{value / (1e3 if letter == 'k' else power):.3g}{letter}"
    if size >= 1e-4:
        return f"{value:,.5g}" if size < 1e5 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
