"""Bytes that are no longer what they were."""

from random import Random

# Lengths and counts are wrong by most at such values.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_WIDE = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80")


def flipped(content: bytes, random: Random) -> bytes:
    """With one bit flipped."""
    bit, changed = random.randrange(8 * len(content)), bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def mutated(content: bytes, random: Random) -> bytes:
    """With one to eight changes: bits, bytes, lengths, parts that are gone, doubled or zero.

    Half of the changes are in the first 1,000 bytes, where formats say what follows.
    """
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        if not changed:
            break
        most = min(len(changed), 1000) if random.random() < 0.5 else len(changed)
        at, size = random.randrange(most), random.choice((1, 2, 4, 16, 200))
        how = random.randrange(9)
        if how < 2:
            changed[at] ^= 1 << random.randrange(8)
        elif how == 2:
            changed[at] = random.choice(_EDGES)
        elif how == 3:
            changed[at : at + 4] = random.choice(_WIDE)
        elif how == 4:
            changed[at : at + size] = random.randbytes(size)
        elif how == 5:
            del changed[at : at + size]
        elif how == 6:
            changed[at:at] = changed[at : at + size]
        elif how == 7:
            changed[at : at + size] = bytes(size)
        else:
            del changed[at:]
    return bytes(changed)
