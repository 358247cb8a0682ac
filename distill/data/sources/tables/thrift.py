"""Thrift's compact protocol, in which Parquet writes its headers.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

import struct
from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
# Parquet nests three deep; what is damaged may seem to nest without end.
_DEEPEST = 16

Fields = dict[int, Any]
"""A struct: values by the numbers of their fields."""


class CutOff(ValueError):
    """The data ends before the struct does."""


def read_struct(data: bytes, position: int = 0) -> tuple[Fields, int]:
    """Reads the struct that begins at a position, and says where it ends.

    Raises:
      CutOff: if the data ends before.
      ValueError: if this is no struct.
    """
    try:
        return _struct(data, position, 0)
    except (IndexError, struct.error) as error:
        raise CutOff("a header that is cut off") from error


def _struct(data: bytes, position: int, depth: int) -> tuple[Fields, int]:
    if depth > _DEEPEST:
        raise ValueError("a header that nests too deep")
    fields: Fields = {}
    number = 0
    while head := data[position]:
        kind, delta = head & 15, head >> 4
        position += 1
        if delta:
            number += delta
        else:
            number, position = _signed(data, position)
        if kind in (_TRUE, _FALSE):
            fields[number] = kind == _TRUE
        else:
            fields[number], position = _value(data, position, kind, depth)
    return fields, position + 1


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_I16, _I32, _I64):
        return _signed(data, position)
    if kind == _BINARY:
        size, position = _unsigned(data, position)
        if position + size > len(data):
            raise CutOff("a header that is cut off")
        return data[position : position + size], position + size
    if kind == _STRUCT:
        return _struct(data, position, depth + 1)
    if kind in (_LIST, _SET):
        return _list(data, position, depth + 1)
    if kind == _DOUBLE:
        return struct.unpack_from("<d", data, position)[0], position + 8
    # In lists, truth is a byte.
    if kind in (_BYTE, _TRUE, _FALSE):
        return data[position], position + 1
    # No header of Parquet has a map.
    raise ValueError("a header of an unknown kind")


def _list(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[position] >> 4, data[position] & 15
    position += 1
    if size == 15:
        size, position = _unsigned(data, position)
    values = []
    for _ in range(size):
        value, position = _value(data, position, kind, depth)
        values.append(value)
    return values, position


def _unsigned(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a header with a number that is too long")


def _signed(data: bytes, position: int) -> tuple[int, int]:
    value, position = _unsigned(data, position)
    return (value >> 1) ^ -(value & 1), position
