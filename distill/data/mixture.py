"""Several sources trained on as one, each as often as its weight says: `config.data.mixture`."""

import dataclasses
import math
from collections.abc import Mapping

from distill.data.classes import Relabelled
from distill.data.sources import Source, SourceName
from distill.data.sources.subset import Joined
from distill.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig:
    """One source of a mixture.

    Raises:
      ValueError: for a weight that is not above 0.
    """

    source: SourceName
    """As `config.data.source`."""
    split: str | None = None
    """Of this source; None takes `config.data.train_split`."""
    weight: float = 1.0
    """How often its images are shown: a part of weight 2 has twice as many positions as one of
    weight 1, however many images it has."""

    def __post_init__(self):
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be above 0, not {self.weight}")


class Mixture(Joined):
    """The images of several sources, one source after another, with how often each is shown.

    Args:
      parts: sources and weights, by name. Classes of one name are one; the classes are the first
        part's, then those that the next adds, and so on.

    Raises:
      UserError: if examples of two parts hold different things.
    """

    def __init__(self, parts: Mapping[str, tuple[Source, float]]):
        first = next(iter(parts))
        for name, (source, _) in parts.items():
            found, expected = _described(source), _described(parts[first][0])
            if found != expected:
                raise UserError(
                    f"config.data.mixture: examples of {name} hold {found}, and those of {first} "
                    f"{expected}; mix sources whose examples hold the same"
                )
        united = tuple(dict.fromkeys(c for source, _ in parts.values() for c in source.class_names))
        super().__init__([_numbered(source, united) for source, _ in parts.values()])
        self.proportions = {
            name: (len(source), float(weight)) for name, (source, weight) in parts.items()
        }
        """Images and weight of each part, by name."""

    @property
    def found(self) -> str:
        """What each part found, and its share of what is shown."""
        total = sum(weight for _, weight in self.proportions.values())
        shares = ((name, weight / total) for name, (_, weight) in self.proportions.items())
        return " + ".join(
            f"{name}, {share:.1%} of what is shown: {source.found}"
            for (name, share), source in zip(shares, self._sources, strict=True)
        )


def _described(source: Source) -> str:
    # Which classes there are may differ, and is united.
    return ", ".join(
        name if name == "classes" else f"{name} {one}" for name, one in source.spec.items()
    )


def _numbered(source: Source, united: tuple[str, ...]) -> Source:
    if source.class_names == united:
        return source
    numbers = {name: number for number, name in enumerate(united)}
    return Relabelled(source, united, [numbers[name] for name in source.class_names])
