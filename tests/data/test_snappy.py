"""Fragments of Snappy data, decompressed alone, are what Arrow makes of the whole."""

import numpy as np
import pyarrow as pa
import pytest

from distill.data.sources.tables import snappy


def compressed(data):
    return pa.compress(data, codec="snappy", asbytes=True)


@pytest.mark.parametrize("size", [1, 59, 60, 61, 5000, 65535, 65536, 65537, 300_000])
def test_fragments_can_be_decompressed_alone(size):
    rng = np.random.default_rng(size)
    data = rng.bytes(size // 2)
    # A little of it can be said by what went before.
    data = (data + data[:1000] + rng.bytes(size))[:size]
    packed = compressed(data)
    places = snappy.fragments(packed)
    count = -(-size // snappy.FRAGMENT)
    assert len(places) == count + 1 and places[-1] == len(packed)
    for first in range(count):
        for last in range(first + 1, count + 1):
            part = data[first * snappy.FRAGMENT : last * snappy.FRAGMENT]
            alone = snappy.alone(packed[places[first] : places[last]], len(part))
            assert pa.decompress(alone, len(part), codec="snappy", asbytes=True) == part


def test_data_of_many_elements_is_left_whole():
    assert snappy.fragments(compressed(b"abcdefgh" * 50_000)) is None


def element(data):
    """A literal of so many bytes, two of which say how many."""
    return b"\xf4" + (len(data) - 1).to_bytes(2, "little") + data


# Of 64 bytes, from as far back as two bytes say.
COPY = b"\xfe"
BACK = (60_100).to_bytes(2, "little")


def test_fragments_that_refer_to_others_are_left_whole():
    random = np.random.default_rng(0).bytes(80_000)
    first, second = random[:65_536], random[65_536:65_600]
    size = len(first) + len(second) + 64
    head = snappy.alone(b"", size)
    # 64 bytes from the fragment before, which the format allows.
    packed = head + element(first) + element(second) + COPY + BACK
    whole = pa.decompress(packed, size, codec="snappy", asbytes=True)
    start = len(first) + len(second) - 60_100
    assert whole == first + second + first[start : start + 64]
    assert snappy.fragments(packed) is None


def test_elements_across_the_border_of_fragments_are_left_whole():
    random = np.random.default_rng(0).bytes(80_000)
    packed = snappy.alone(b"", 80_000) + element(random[:60_000]) + element(random[60_000:])
    assert pa.decompress(packed, 80_000, codec="snappy", asbytes=True) == random
    assert snappy.fragments(packed) is None
