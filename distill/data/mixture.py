"""Several sources trained on as one, each as often as its weight says: `config.data.mixture`."""

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction

from distill.bounds import Positive, check_fields
from distill.data.classes import Relabelled
from distill.data.sources import Source, SourceName
from distill.data.sources.subset import Joined
from distill.data.spec import MaskSpec
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
    weight: Positive = 1.0
    """How often its images are shown: a part of weight 2 has twice as many positions as one of
    weight 1, however many images it has."""

    def __post_init__(self):
        check_fields(self)


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
            for array, one in source.spec.items():
                if isinstance(one, MaskSpec) and one != parts[first][0].spec[array]:
                    raise UserError(
                        f"config.data.mixture: {array!r} of {name} and of {first} has other "
                        "classes, or another number for none; mix sources whose pixels have the "
                        "same classes"
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
        shares = _shares(self.proportions).items()
        return " + ".join(
            f"{name}, {_percent(share)} of what is shown: {source.found}"
            for (name, share), source in zip(shares, self._sources, strict=True)
        )


def _shares(proportions: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    """Of each part, how much of what is shown is its."""
    # Sums of the largest floats are none.
    weights = {name: Fraction(weight) for name, (_, weight) in proportions.items()}
    return {name: float(weight / sum(weights.values())) for name, weight in weights.items()}


def _percent(share: float) -> str:
    """With a decimal, or as many as it takes to tell it from nothing."""
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"


def rare(source: Source) -> Iterator[str]:
    """Says which parts of a mixture are hardly shown: not once in each 1,024 images."""
    for name, share in _shares(getattr(source, "proportions", {})).items():
        if share < 1 / 1024:
            yield (
                f"{name} has {_percent(share)} of what is shown, fewer than one image in 1,024, by "
                f"its weight in config.data.mixture.{name}.weight"
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
