"""Hadamard matrices: entries of 1 and −1, and rows that are orthogonal."""

import functools

import numpy as np


@functools.lru_cache(maxsize=4)
def hadamard(size: int) -> np.ndarray:
    """A Hadamard matrix, [size, size] int8.

    Sylvester's doubling of one of half the size, or else Paley's constructions from the squares
    modulo a prime, of sizes q + 1 and 2·(q + 1). They give those of the widths of published vision
    transformers: 192 and 768 are made of 12, 1152 of 36, 1280 of 20, 1408 of 44, 1536 of 12.

    Raises:
      ValueError: for a size of which these make none: others than 1 and 2 that are no multiple of
        4, of which there is none, and some that are.
    """
    found = _hadamard(size)
    if found is None:
        raise ValueError(f"no Hadamard matrix of size {size} is known here")
    found.setflags(write=False)
    return found


def _hadamard(size: int) -> np.ndarray | None:
    if size == 1:
        return np.ones((1, 1), np.int8)
    if size < 1 or size % 2 or (size > 2 and size % 4):
        return None
    half = _hadamard(size // 2)
    if half is not None:
        return np.kron(np.array([[1, 1], [1, -1]], np.int8), half)
    if _is_prime(size - 1):
        return _paley_one(size - 1)
    q = size // 2 - 1
    return _paley_two(q) if q % 4 == 1 and _is_prime(q) else None


def _paley_one(q: int) -> np.ndarray:
    """Of size q + 1, for a prime q = 3 modulo 4."""
    skew = np.zeros((q + 1, q + 1), np.int8)
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = _jacobsthal(q)
    return skew + np.eye(q + 1, dtype=np.int8)


def _paley_two(q: int) -> np.ndarray:
    """Of size 2·(q + 1), for a prime q = 1 modulo 4."""
    symmetric = np.zeros((q + 1, q + 1), np.int8)
    symmetric[0, 1:], symmetric[1:, 0] = 1, 1
    symmetric[1:, 1:] = _jacobsthal(q)
    off = np.array([[1, 1], [1, -1]], np.int8)
    on = np.array([[1, -1], [-1, -1]], np.int8)
    return np.kron(symmetric, off) + np.kron(np.eye(q + 1, dtype=np.int8), on)


def _jacobsthal(q: int) -> np.ndarray:
    """Whether i − j is a square modulo a prime q: 1 where it is, −1 where not, 0 for i = j."""
    character = np.full(q, -1, np.int8)
    character[np.arange(1, q) ** 2 % q] = 1
    character[0] = 0
    places = np.arange(q)
    return character[(places[:, None] - places) % q]


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))
