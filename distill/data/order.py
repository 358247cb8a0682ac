"""Which image stands at each position of a run: read at random, whatever was read before.

Of one source, position p is place p mod n of epoch p div n, and each epoch is a permutation of its
own. A mixture (`distill.data.mixture`) first gives positions to its parts by their weights; each
part then has its own positions, and so its own epochs.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from grain.experimental import index_shuffle

# Up to this size an epoch's order is a table. Grain's cipher needs no memory, but permutes at
# least 2^16 numbers and so draws many times before it hits one of a few.
_TABLE = 2**16
# Positions that are shared out at once.
_BLOCK = 2**10
# Keys of a part's epochs and of blocks, apart from those of whole sources.
_PART, _BLOCKS = 2**32 + 1, 2**32 + 2


class Place(NamedTuple):
    """What stands at a position."""

    epoch: int
    image: int
    """Its number in the source that is trained on."""


class Order(Protocol):
    """What stands at each position."""

    def at(self, position: int, attempt: int = 0) -> Place:
        """The image at a position, or the one that stands in for it at an attempt after the first.

        Args:
          position: from 0.
          attempt: how many images before could not be read.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """The order of one source."""

    images: int
    seed: int

    def at(self, position: int, attempt: int = 0) -> Place:
        """See `Order`."""
        epoch, within = divmod(position, self.images)
        place = (within + attempt) % self.images
        return Place(epoch, shuffled_index(place, self.images, self.seed, epoch))


@dataclasses.dataclass(frozen=True)
class Mixed:
    """The order of a mixture, whose images are those of its parts, one part after another.

    Of every 1,024 positions, each part has as many as its weight says, to within one, and of all
    positions from the first to the end of any such block too; which of them is drawn.
    """

    images: tuple[int, ...]
    """Of each part."""
    weights: tuple[float, ...]
    """Of each part, above 0; only their ratios count."""
    seed: int

    def at(self, position: int, attempt: int = 0) -> Place:
        """See `Order`."""
        block, place = divmod(position, _BLOCK)
        parts, ranks = _shared_out(self.weights, self.seed, block)
        part = int(parts[place])
        images = self.images[part]
        own = _positions_before(self.weights, block)[part] + int(ranks[place])
        epoch, within = divmod(own, images)
        key = (self.seed, _PART + part) if part else self.seed
        index = shuffled_index((within + attempt) % images, images, key, epoch)
        return Place(epoch, sum(self.images[:part]) + index)

    def images_before(self, position: int) -> list[int]:
        """How many of the positions before this one each part has had."""
        block, place = divmod(position, _BLOCK)
        parts, _ = _shared_out(self.weights, self.seed, block)
        here = np.bincount(parts[:place], minlength=len(self.weights))
        return [int(n) for n in _positions_before(self.weights, block) + here]


@functools.lru_cache(maxsize=64)
def _positions_before(weights: tuple[float, ...], block: int) -> np.ndarray:
    """Of all positions before a block, how many each part has, int64 [parts]."""
    # The ends of what each part has, laid one after another, rounded down: they add up.
    shares = list(itertools.accumulate(map(Fraction, weights)))
    positions = block * _BLOCK
    ends = [int(positions * share / shares[-1]) for share in shares[:-1]]
    return np.diff([0, *ends, positions])


@functools.lru_cache(maxsize=64)
def _shared_out(weights: tuple[float, ...], seed: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each position of a block its part, and how many of the block's before it are that part's.

    Both int64 [1024].
    """
    here = _positions_before(weights, block + 1) - _positions_before(weights, block)
    parts = np.repeat(np.arange(len(weights)), here)
    parts = np.random.default_rng((seed, _BLOCKS, block)).permutation(parts)
    ranks = np.empty(_BLOCK, np.int64)
    for part, size in enumerate(here):
        ranks[parts == part] = np.arange(size)
    return parts, ranks


def shuffled_index(within: int, count: int, seed: int | Sequence[int], epoch: int) -> int:
    """The image at place `within` of an epoch: a keyed permutation of range(count)."""
    key = (seed, epoch) if isinstance(seed, int) else (*seed, epoch)
    if count <= _TABLE:
        return int(_permutation(count, key)[within])
    return index_shuffle(within, max_index=count - 1, seed=_epoch_key(key), rounds=4)


@functools.lru_cache(maxsize=16)
def _permutation(count: int, key: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(key).permutation(count)


@functools.lru_cache(maxsize=16)
def _epoch_key(key: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def order_of(source: object, count: int, seed: int) -> Order:
    """The order in which a run trains on a source: its own if it is a mixture."""
    mixed: Mapping[str, tuple[int, float]] | None = getattr(source, "proportions", None)
    if not mixed:
        return Shuffled(count, seed)
    images, weights = zip(*mixed.values(), strict=True)
    return Mixed(images, weights, seed)
