"""Masks of a video's first frame, carried through it by how alike tokens are.

The protocol of DINO (arXiv 2104.14294, section 4.2.1, on DAVIS 2017), in which nothing is learnt.
How well it goes is measured in `distill.analysis.objects`.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator

import numpy as np

from distill.analysis.linear import check_finite
from distill.analysis.resizing import resize_bilinear, resize_nearest
from distill.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propagation:
    """Where a patch looks for what it shows; DINO's settings."""

    frames: int = 7
    """How many are looked back to, beside the first."""
    radius: int = 12
    """In patches, to each side."""
    neighbours: int = 5
    """The number of sources."""
    temperature: float = 0.1
    """Of similarities."""


# Side in patches of what is compared at once: less is left unused around a small one.
_TILE = 8

_Part = tuple[slice, ...]


def propagate(
    tokens: np.ndarray, first: np.ndarray, settings: Propagation = Propagation()
) -> Iterator[np.ndarray]:
    """Carries the first frame's shares from frame to frame.

    A patch's shares are the mean of those of its sources, with weights of exp(s / temperature),
    where s is the cosine similarity of tokens. Its sources are the most similar patches (those
    that are equal to the last of them, too) among all that lie no more than `radius` rows and
    columns away, in the first frame and the last `frames` before it.

    Args:
      tokens: [T, h, w, D], computed with in their dtype, float32 at least.
      first: shares of the first frame's patches, float [h, w, C].
      settings: where patches look, and for how many.

    Yields:
      The shares of each frame, [h, w, C]: the first frame's as they are, then the others'.

    Raises:
      RunFailed: if a token is not finite.
    """
    start = _unit(tokens[0]), first.astype(np.result_type(tokens, np.float32))
    yield start[1]
    before: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=settings.frames)
    for frame in tokens[1:]:
        queries = _unit(frame)
        sources, shares = (np.stack(parts) for parts in zip(start, *before, strict=True))
        found = np.empty_like(start[1])
        for tile, around, near in _tiles(found.shape[:2], settings.radius):
            found[tile] = _gathered(
                queries[tile].reshape(-1, queries.shape[-1]),
                sources[:, *around].reshape(-1, sources.shape[-1]),
                shares[:, *around].reshape(-1, shares.shape[-1]),
                np.tile(near, len(sources)),
                settings,
            ).reshape(found[tile].shape)
        before.append((queries, found))
        yield found


def propagated_masks(
    tokens: np.ndarray,
    mask: np.ndarray,
    settings: Propagation = Propagation(),
    *,
    ignore: int = 255,
) -> Iterator[np.ndarray]:
    """Carries the objects of a first frame's mask through a video, at the mask's size.

    Shares are interpolated bilinearly; each object's are stretched to between 0 and 1 over the
    frame, and the highest one wins.

    Args:
      tokens: as of `propagate`.
      mask: int [height, width], 0 where there is no object; patches take the nearest pixel's.
      settings: as of `propagate`.
      ignore: what it holds where it says nothing.

    Yields:
      int [height, width] for each frame after the first, with the mask's numbers.

    Raises:
      UserError: if the mask has no object.
      RunFailed: if a token is not finite.
    """
    numbers = np.array([0, *objects_of(mask, ignore)], mask.dtype)
    patches = resize_nearest(mask, tokens.shape[1:3])
    shares = propagate(tokens, patches[..., None] == numbers, settings)
    next(shares)
    for frame in shares:
        yield numbers[_stretched(resize_bilinear(frame, mask.shape)).argmax(axis=-1)]


def objects_of(mask: np.ndarray, ignore: int = 255) -> list[int]:
    """The numbers of a mask's objects, ascending.

    Args:
      mask: int [height, width], 0 where there is no object.
      ignore: what it holds where it says nothing.

    Raises:
      UserError: if there are none.
    """
    found = [number for number in np.unique(mask).tolist() if number not in (0, ignore)]
    if not found:
        raise UserError(
            "the first frame's mask has no object to follow; expected numbers other than 0 and "
            f"{ignore}"
        )
    return found


def _unit(tokens: np.ndarray) -> np.ndarray:
    check_finite(tokens.reshape(-1, tokens.shape[-1]), "token")
    tokens = tokens.astype(np.result_type(tokens, np.float32))
    norms = np.linalg.norm(tokens, axis=-1, keepdims=True)
    return tokens / np.where(norms > 0, norms, 1)


def _tiles(size: tuple[int, int], radius: int) -> Iterator[tuple[_Part, _Part, np.ndarray]]:
    """Tiles of a grid, what lies around each, and which of the latter is near which of the former.

    Yields:
      Rows and columns of a tile of q patches, of n around it, and bool [q, n].
    """
    for top in range(0, size[0], _TILE):
        for left in range(0, size[1], _TILE):
            tile, around, near = [], [], []
            for start, length in zip((top, left), size, strict=True):
                stop = min(start + _TILE, length)
                low, high = max(start - radius, 0), min(stop + radius, length)
                tile.append(slice(start, stop))
                around.append(slice(low, high))
                distance = np.arange(start, stop)[:, None] - np.arange(low, high)
                near.append(np.abs(distance) <= radius)
            yield tuple(tile), tuple(around), np.kron(*near)


def _gathered(
    queries: np.ndarray,
    sources: np.ndarray,
    shares: np.ndarray,
    near: np.ndarray,
    settings: Propagation,
) -> np.ndarray:
    """The shares of some patches.

    Args:
      queries: tokens of length 1, [q, D].
      sources: likewise, [n, D].
      shares: of the sources, [n, C].
      near: bool [q, n], which sources a query has.
      settings: as of `propagate`.

    Returns:
      [q, C].
    """
    similarity = np.where(near, queries @ sources.T, -np.inf)
    last = max(len(sources) - settings.neighbours, 0)
    bound = np.partition(similarity, last, axis=1)[:, last, None]
    query, source = np.nonzero((similarity >= bound) & near)
    best = similarity.max(axis=1)
    weights = np.exp((similarity[query, source] - best[query]) / settings.temperature)
    found = np.zeros((len(queries), shares.shape[1]))
    np.add.at(found, query, weights[:, None] * shares[source])
    return found / np.bincount(query, weights)[:, None]


def _stretched(shares: np.ndarray) -> np.ndarray:
    """Of each channel of [height, width, C], 0 to 1; what is the same everywhere becomes 0."""
    low, high = shares.min(axis=(0, 1)), shares.max(axis=(0, 1))
    return (shares - low) / np.where(high > low, high - low, 1)
