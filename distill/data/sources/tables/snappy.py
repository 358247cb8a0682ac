"""Parts of Snappy data that can be decompressed alone.

All known compressors cut their input into fragments of 64 KiB and never refer from one back into
another, though the format would allow it
(https://github.com/google/snappy/blob/main/format_description.txt). Images hardly compress, so
that a fragment is a few elements, which are quickly gone through.
"""

import numpy as np

FRAGMENT = 1 << 16
# Of long data with shorter elements than this on average, going through them is slower than
# decompressing all of it.
_SHORTEST, _FEW = 512, 100


def fragments(data: bytes | memoryview) -> np.ndarray | None:
    """Where the fragments of Snappy data begin, and where the last ends, int32 [fragments + 1].

    Returns:
      None for data of which fragments cannot be told or need each other.

    Args:
      data: all of it, which can be decompressed.
    """
    total, place = _varint(data)
    most = _FEW + total // _SHORTEST
    starts, done, begin = [], 0, 0
    while done < total:
        if done - begin == FRAGMENT or not starts:
            starts.append(place)
            begin = done
        size, back, place = _element(data, place)
        done += size
        most -= 1
        if done - begin > FRAGMENT or back > done - size - begin or most < 0:
            return None
    return np.array([*starts, place], np.int32)


def _varint(data: bytes | memoryview) -> tuple[int, int]:
    value = place = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << 7 * place
        place += 1
        if byte < 128:
            return value, place


def _element(data: bytes | memoryview, place: int) -> tuple[int, int, int]:
    """How many bytes an element stands for, from how far back they are, and where it ends."""
    tag = data[place]
    kind, rest = tag & 3, tag >> 2
    if kind == 0:
        wide = max(rest - 59, 0)
        size = int.from_bytes(data[place + 1 : place + 1 + wide], "little") if wide else rest
        return size + 1, 0, place + 1 + wide + size + 1
    if kind == 1:
        return 4 + (rest & 7), (rest >> 3 << 8) | data[place + 1], place + 2
    wide = 2 * (kind - 1)
    back = int.from_bytes(data[place + 1 : place + 1 + wide], "little")
    return rest + 1, back, place + 1 + wide


def alone(data: bytes, size: int) -> bytes:
    """Fragments cut out of Snappy data, as Snappy data of its own.

    Args:
      data: of the fragments.
      size: what they decompress to.
    """
    head = bytearray()
    while size >= 128:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + data
