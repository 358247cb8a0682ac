"""Records of TensorFlow, `tf.train.Example`, read without it.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto, in
Protocol Buffers' wire format (https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Iterator

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


def parse_example(record: bytes) -> dict[str, list[bytes] | list[float] | list[int]]:
    """The features by name.

    Raises:
      ValueError: if the record is no `tf.train.Example`.
    """
    features: dict[str, list[bytes] | list[float] | list[int]] = {}
    for _, part in _fields(record):
        for _, entry in _fields(_bytes(part)):
            named = dict(_fields(_bytes(entry)))
            kinds = list(_fields(_bytes(named.get(2, b""))))
            values: list = []
            for kind, content in kinds:
                if kind == _BYTES_LIST:
                    values += [_bytes(value) for _, value in _fields(_bytes(content))]
                elif kind == _FLOAT_LIST:
                    for _, some in _fields(_bytes(content)):
                        values += np.frombuffer(_bytes(some), "<f4").tolist()
                elif kind == _INT64_LIST:
                    values += _whole_numbers(_bytes(content))
            features[_bytes(named.get(1, b"")).decode("utf-8")] = values
    return features


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and contents of a message's fields."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
        elif kind in (_BYTES, _FIXED32, _FIXED64):
            length, place = _varint(data, place) if kind == _BYTES else (4 + 4 * (kind == 1), place)
            value, place = data[place : place + length], place + length
            if place > len(data):
                raise ValueError("it is cut off")
        else:
            raise ValueError(f"it has a field of kind {kind}")
        yield tag >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A whole number in 7 bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return value, place
    raise ValueError("it is cut off")


def _whole_numbers(data: bytes) -> list[int]:
    """An Int64List's values, packed or one by one."""
    values = []
    for _, content in _fields(data):
        if isinstance(content, int):
            values.append(content)
            continue
        place = 0
        while place < len(content):
            value, place = _varint(content, place)
            values.append(value)
    return [value - (1 << 64) if value >> 63 else value for value in values]


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise ValueError("it has a number in place of a message")
    return value
