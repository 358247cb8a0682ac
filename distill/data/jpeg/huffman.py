"""Huffman tables of JPEG (ITU-T T.81, annexes C and F), as DHT has them: counts, then symbols."""

import functools

import numpy as np

from distill.data.jpeg.errors import UnsupportedJpeg

# Where a block ends before its last coefficient; more than all steps through a block.
END = 128
# What the steps of a whole block sum to: they lead to the last coefficient, or to its end before.
WHOLE = frozenset([64, *range(END + 1, END + 64)])
# No code begins with these bits.
INVALID = 255


def lookup(table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """By the next 16 bits: length in bits of the code they begin with, and its symbol.

    Returns:
      Both uint8 [65536]; the length is 0 where there is no such code.

    Raises:
      UnsupportedJpeg: if there are more codes than can be told apart.
    """
    counts, symbols = np.split(np.frombuffer(table, np.uint8), [16])
    lengths = np.repeat(np.arange(1, 17, dtype=np.uint8), counts)
    # Codes count upwards from 0, so those of a length begin where shorter ones end.
    spans = 1 << (16 - lengths.astype(np.int32))
    if spans.sum() > 1 << 16:
        raise UnsupportedJpeg("a Huffman table is damaged")
    found = np.zeros((2, 1 << 16), np.uint8)
    found[0, : spans.sum()] = np.repeat(lengths, spans)
    found[1, : spans.sum()] = np.repeat(symbols, spans)
    return found[0], found[1]


def codes(table: bytes) -> dict[int, str]:
    """By symbol, the code as text of zeros and ones."""
    found, code, at = {}, 0, 16
    for length, count in enumerate(table[:16], 1):
        for symbol in table[at : at + count]:
            found[symbol] = f"{code:0{length}b}"
            code += 1
        code, at = code << 1, at + count
    return found


def extended(table: bytes, symbols: set[int]) -> bytes:
    """The table with codes for symbols that it lacks; those that it has keep theirs.

    Raises:
      UnsupportedJpeg: if there is no room for them.
    """
    missing = sorted(symbols - set(table[16:]))
    if not missing:
        return table
    used = sum(count << (16 - length) for length, count in enumerate(table[:16], 1))
    longest = max(length for length, count in enumerate(table[:16], 1) if count)
    for length in range(longest, 17):
        # The code of ones alone must stay unused.
        if len(missing) < ((1 << 16) - used) >> (16 - length):
            counts = bytearray(table[:16])
            counts[length - 1] += len(missing)
            return bytes(counts) + table[16:] + bytes(missing)
    raise UnsupportedJpeg("its Huffman table has no room for further codes")


@functools.lru_cache(16)
def differences(table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of a DC table, by the next 16 bits: length of the code and of what follows it.

    Returns:
      Both uint8 [65536]; the length is 0 where there is no such code.
    """
    length, size = lookup(table)
    # A difference of 8-bit samples has 11 bits at most.
    return length * (size <= 11), size


def coefficients(table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of an AC table, by the next 16 bits: one coefficient, its bits and its steps.

    Returns:
      Both uint8 [65536]: bits of code and value, and how far they lead in the block's order,
      `END` where it ends and `INVALID` where there is no such code.
    """
    length, symbol = lookup(table)
    run, size = symbol >> 4, symbol & 15
    steps = np.where((size == 0) & (run < 15), END, run + 1)
    return length + size, np.where(length, steps, INVALID).astype(np.uint8)


def runs(table: bytes) -> tuple[np.ndarray, np.ndarray]:
    """As `coefficients`, of as many of them as the 16 bits hold the codes of.

    Steps and `END` are added up. A block that ends with its last coefficient has no end code, so
    that what is beyond may be of the next block: steps then sum to more than the block holds.
    """
    length = lookup(table)[0]
    one_bits, one_steps = coefficients(table)
    bits, steps = one_bits.copy(), one_steps.copy()
    going = np.arange(1 << 16)
    while True:
        going = going[(steps[going] < END) & (bits[going] < 16)]
        used = bits[going]
        following = (going << used) & 0xFFFF
        whole = (length[following] > 0) & (used + length[following] <= 16)
        # More steps than a block has would look like its end.
        whole &= (one_steps[following] == END) | (steps[going] + one_steps[following] < 64)
        going, following = going[whole], following[whole]
        if not len(going):
            return bits, steps
        bits[going] += one_bits[following]
        steps[going] += one_steps[following]
