"""Classification by the nearest neighbours of frozen features."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import UserError
from distill.evaluate.linear import check_finite, row_blocks

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
    most = max(neighbours)
    check_neighbours(most, len(bank))
    check_finite(bank)
    check_finite(queries)
    bank_size, query_size = min(_BANK, len(bank)), min(_QUERIES, len(queries))
    blocks = [jnp.asarray(block) for block in _padded(_unit(queries), query_size, 0.0)]
    best = [_none_yet(query_size, most)] * len(blocks)
    for features, of in zip(
        _padded(_unit(bank), bank_size, 0.0), _padded(labels, bank_size, -1), strict=True
    ):
        features, of = jnp.asarray(features), jnp.asarray(of)
        best = [
            _nearest(*found, block, features, of, most)
            for found, block in zip(best, blocks, strict=True)
        ]
        # Or all of the bank would be on the device.
        jax.block_until_ready(best)
    return {
        k: np.concatenate([_vote(*found, k, classes) for found in best])[: len(queries)]
        for k in neighbours
    }


def check_neighbours(most: int, images: int) -> None:
    """Checks that there are so many neighbours.

    Raises:
      UserError: if there are not.
    """
    if most > images:
        raise UserError(f"{most} neighbours asked for among {images} images; ask for fewer")


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
def _nearest(similarity, label, queries, bank, labels, most):
    """The nearest of what was found before and of a block of the bank, nearest first."""
    found = jnp.matmul(queries, bank.T, precision="highest")
    found = jnp.where(labels >= 0, found, -jnp.inf)
    of = jnp.broadcast_to(labels.astype(jnp.int32), found.shape)
    similarity, place = jax.lax.top_k(jnp.concatenate([similarity, found], axis=1), most)
    return similarity, jnp.take_along_axis(jnp.concatenate([label, of], axis=1), place, axis=1)


@functools.partial(jax.jit, static_argnames=("k", "classes"))
def _vote(similarity, label, k, classes):
    weights = jnp.exp(similarity[:, :k] / TEMPERATURE)
    rows = jnp.arange(len(weights))[:, None]
    votes = jnp.zeros((len(weights), classes)).at[rows, label[:, :k]].add(weights)
    return jnp.argmax(votes, axis=-1).astype(jnp.int32)
