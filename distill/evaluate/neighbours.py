"""Classification by the nearest neighbours of frozen features."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from distill.analysis.linear import check_finite, row_blocks
from distill.errors import UserError

TEMPERATURE = 0.07

# Rows of a block of similarities: 64 MiB in float32.
_BANK, _QUERIES = 16384, 1024


def neighbour_predictions(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    neighbours: Sequence[int],
) -> dict[int, np.ndarray]:
    """The class that the k nearest features vote for, for each k.

    The weighted vote of DINO (arXiv 2104.14294, evaluation protocols): each of the k neighbours by
    cosine similarity s votes for its class with weight exp(s / 0.07). Computed in float32 on one
    device, which holds the queries and a block of the bank at a time.

    Args:
      bank: features [N, D] float32 to look among.
      labels: their classes, int [N].
      queries: features [Q, D] float32 to classify.
      classes: C.
      neighbours: the numbers k.

    Returns:
      int32 [Q] for each k.

    Raises:
      UserError: if a k is larger than N.
      RunFailed: if a feature is not finite.
    """
    check_neighbours(max(neighbours), len(bank))
    check_finite(bank)
    check_finite(queries)
    labels = labels.astype(np.int32)
    found = list(_nearest(bank, queries, max(neighbours), usable=labels >= 0))
    return {
        k: np.concatenate(
            [_vote(similarity, labels[rows], k, classes) for similarity, rows in found]
        )[: len(queries)]
        for k in neighbours
    }


def neighbour_shares(
    bank: np.ndarray, shares: np.ndarray, queries: np.ndarray, neighbours: int = 20
) -> np.ndarray:
    """What the k nearest features hold of each class: patches' classes, by those of other patches.

    The mean of the neighbours' shares with the weights of `neighbour_predictions`.

    Args:
      bank: features [N, D] float32 to look among.
      shares: theirs, float [N, C], such as those of
        `distill.analysis.segmentation.patch_shares`; what is NaN is no neighbour.
      queries: features [Q, D] float32.
      neighbours: the number k.

    Returns:
      float32 [Q, C].

    Raises:
      UserError: if k is larger than the number of neighbours that there are.
      RunFailed: if a feature is not finite.
    """
    usable = np.isfinite(shares.sum(axis=1))
    check_neighbours(neighbours, int(usable.sum()), "patches")
    check_finite(bank, "patch")
    check_finite(queries, "patch")
    blocks = [np.empty((0, shares.shape[1]), np.float32)]
    for similarity, rows in _nearest(bank, queries, neighbours, usable):
        weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)
        weights /= weights.sum(axis=1, keepdims=True)
        blocks.append(np.einsum("qk,qkc->qc", weights, shares[rows], dtype=np.float32))
    return np.concatenate(blocks)[: len(queries)]


def check_neighbours(most: int, count: int, of: str = "images") -> None:
    """Checks that there are so many neighbours.

    Args:
      most: how many are asked for.
      count: how many there are.
      of: what they are.

    Raises:
      UserError: if there are not.
    """
    if most > count:
        raise UserError(f"{most} neighbours asked for among {count} {of}; ask for fewer")


def _nearest(
    bank: np.ndarray, queries: np.ndarray, most: int, usable: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The most similar rows of the bank, nearest first, for a block of queries at a time.

    Args:
      bank: features [N, D] float32.
      queries: likewise, [Q, D].
      most: the number of rows.
      usable: bool [N], of which rows.

    Yields:
      Cosine similarities, float32 [q, most], and the rows' numbers, int32; of what fills up the
      last block of queries, anything. Where fewer are usable, -inf and -1.
    """
    bank_size, query_size = min(_BANK, len(bank)), min(_QUERIES, len(queries))
    blocks = [jnp.asarray(block) for block in _padded(_unit(queries), query_size, 0.0)]
    best = [_none_yet(query_size, most)] * len(blocks)
    numbers = np.where(usable, np.arange(len(bank)), -1).astype(np.int32)
    for features, rows in zip(
        _padded(_unit(bank), bank_size, 0.0), _padded(numbers, bank_size, -1), strict=True
    ):
        features, rows = jnp.asarray(features), jnp.asarray(rows)
        best = [
            _nearer(*found, block, features, rows, most)
            for found, block in zip(best, blocks, strict=True)
        ]
        # Or all of the bank would be on the device.
        jax.block_until_ready(best)
    for similarity, row in best:
        yield np.asarray(similarity), np.asarray(row)


def _unit(features: np.ndarray) -> np.ndarray:
    # Squares of what is far from 1 are beyond float32.
    largest = np.max(np.abs(features), axis=-1, keepdims=True)
    features = features / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(norms > 0, norms, 1)


def _padded(rows: np.ndarray, size: int, value: float) -> Iterator[np.ndarray]:
    """Blocks of `size` rows, the last filled up with `value`."""
    for part in row_blocks(len(rows), size):
        block = rows[part]
        missing = [(0, size - len(block))] + [(0, 0)] * (rows.ndim - 1)
        yield np.pad(block, missing, constant_values=value)


def _none_yet(queries: int, most: int) -> tuple[jax.Array, jax.Array]:
    return jnp.full((queries, most), -jnp.inf), jnp.full((queries, most), -1, jnp.int32)


@functools.partial(jax.jit, static_argnames="most")
def _nearer(similarity, row, queries, bank, rows, most):
    """The nearest of what was found before and of a block of the bank, nearest first."""
    found = jnp.matmul(queries, bank.T, precision="highest")
    found = jnp.where(rows >= 0, found, -jnp.inf)
    of = jnp.broadcast_to(rows, found.shape)
    similarity, place = jax.lax.top_k(jnp.concatenate([similarity, found], axis=1), most)
    return similarity, jnp.take_along_axis(jnp.concatenate([row, of], axis=1), place, axis=1)


@functools.partial(jax.jit, static_argnames=("k", "classes"))
def _vote(similarity, label, k, classes):
    weights = jnp.exp(similarity[:, :k] / TEMPERATURE)
    rows = jnp.arange(len(weights))[:, None]
    votes = jnp.zeros((len(weights), classes)).at[rows, label[:, :k]].add(weights)
    return jnp.argmax(votes, axis=-1).astype(jnp.int32)
