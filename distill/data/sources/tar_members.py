"""What a tar file holds and where, from its headers alone.

Python's tarfile makes an object of every member, which takes longer than reading its header.
Formats: POSIX.1-1988 (ustar) with its prefix, POSIX.1-2001 (pax) and GNU's long names and large
numbers (https://www.gnu.org/software/tar/manual/html_node/Standard.html).
"""

import zlib
from collections import Counter
from collections.abc import Iterator

from distill.data.sources.storage import OpenFile
from distill.errors import UserError

BLOCK = 512
# A pax or long name header beyond it is no header; names are bounded by the system.
_LONGEST_HEADER = 1 << 20
# Read at once: the header of a short member, the member, and the header after it.
_WINDOW = 4096
_CHECKSUM_MODULUS = 65521

_FILES = (b"0", b"\0", b"7")
_FOLDER = b"5"
_LINKS = {b"1": "hard link", b"2": "symbolic link"}
_LONG_NAME, _LONG_LINK, _SPARSE = b"L", b"K", b"S"
_PAX, _GLOBAL_PAX, _SOLARIS_PAX = b"x", b"g", b"X"
_EXTENDING = (_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL_PAX, _SOLARIS_PAX)
# Of links, folders, devices and pipes no data follows, whatever their size says.
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


class DamagedTar(UserError):
    """A file that is no tar, or not a whole one; the message says where and after which member."""


class TarWalk:
    """The files of a tar in its order: their names, where their bytes begin, and how many they are.

    Args:
      file: it, open.

    Raises:
      DamagedTar: where iteration meets a header that is none, or a member that is cut off.
      OSError: if the system fails to read.
    """

    def __init__(self, file: OpenFile):
        self._file, self._read = file, file.read
        self._last = b""
        self._window, self._window_at = b"", 0
        self.ended = False
        """Whether the mark at the end of a tar was met."""
        self.left_out: Counter[str] = Counter()
        """What is neither file nor folder, counted as it is iterated over."""

    def read(self, offset: int, size: int) -> bytes:
        """A part of the tar; short parts are read along with what follows."""
        start = offset - self._window_at
        if not 0 <= start <= len(self._window) - size:
            self._window = self._read(max(size, _WINDOW), offset)
            self._window_at, start = offset, 0
        return self._window[start : start + size]

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        offset = 0
        common: dict[bytes, bytes] = {}
        extended: dict[bytes, bytes] = {}
        reached, reaches = self._file.size, self._file.reaches
        while offset < reached or reaches(offset + 1):
            header = self.read(offset, BLOCK)
            if len(header) < BLOCK:
                raise self._damaged(f"is cut off in the header at byte {offset:,}")
            if not header[0] and not any(header):
                self.ended = True
                return
            if not _fits(header):
                raise self._damaged(f"has no tar header at byte {offset:,}")
            kind, data = header[156:157], offset + BLOCK
            name = extended.get(b"path") or _name(header)
            size = self._number(extended.get(b"size"), header[124:136], offset)
            offset = data
            if kind not in _WITHOUT_DATA:
                offset += -(-size // BLOCK) * BLOCK
                if data + size > reached and not reaches(data + size):
                    raise self._damaged(
                        f"is cut off: {_shown(name)} should end at byte {data + size:,}, but the "
                        f"file has {self._file.size:,} bytes"
                    )
            if kind in _EXTENDING:
                self._extend(kind, data, size, common, extended)
                continue
            self._last = name
            if extended or kind == _SPARSE:
                self._refuse_sparse(kind, extended)
                extended = dict(common)
            # As in V7, a name that ends with a slash is a folder's.
            if kind not in _FILES and kind != _FOLDER:
                self.left_out[_LINKS.get(kind, "special file")] += 1
            elif kind != _FOLDER and name[-1:] != b"/":
                yield name, data, size
        if offset > self._file.size:
            raise self._damaged(f"is cut off before byte {offset:,}")

    def _refuse_sparse(self, kind: bytes, extended: dict[bytes, bytes]) -> None:
        if kind == _SPARSE or any(key.startswith(b"GNU.sparse") for key in extended):
            raise self._damaged(
                f"holds {_shown(self._last)} as a sparse file, which is not read. Pack it without "
                "--sparse"
            )

    def _extend(self, kind: bytes, data: int, size: int, common: dict, extended: dict) -> None:
        """Takes up what a header says of the member after it, or of all."""
        if size > _LONGEST_HEADER:
            raise self._damaged(f"has a header of {size:,} bytes at byte {data:,}")
        content = self.read(data, size)
        if kind == _LONG_NAME:
            extended[b"path"] = content.partition(b"\0")[0]
        elif kind == _GLOBAL_PAX:
            common |= self._pax(content, data)
            extended |= common
        elif kind != _LONG_LINK:
            extended |= self._pax(content, data)

    def _pax(self, content: bytes, offset: int) -> dict[bytes, bytes]:
        """The records `length key=value` and a line break of a pax header."""
        records, start = {}, 0
        while start < len(content) and content[start]:
            digits, _, _ = content[start : start + 20].partition(b" ")
            stop = start + int(digits) if digits.isdigit() else 0
            key, equals, value = content[start + len(digits) + 1 : stop - 1].partition(b"=")
            if not start < stop <= len(content) or not equals:
                raise self._damaged(f"has a pax header that cannot be read at byte {offset:,}")
            records[key] = value
            start = stop
        return records

    def _number(self, pax: bytes | None, field: bytes, offset: int) -> int:
        """A size: pax's decimal one, GNU's base 256, or octal."""
        try:
            if pax is not None:
                return int(pax)
            if field[0] == 0x80:
                return int.from_bytes(field[1:], "big")
            return int(field.rstrip(b" \0") or b"0", 8)
        except ValueError as error:
            raise self._damaged(f"has a header without a size at byte {offset:,}") from error

    def _damaged(self, what: str) -> DamagedTar:
        after = f" (the last member before is {_shown(self._last)})" if self._last else ""
        return DamagedTar(f"{what}{after}")


def _fits(header: bytes) -> bool:
    """Whether a header has the checksum that it says: the sum of its bytes, of its own 8 spaces."""
    try:
        stated = int(header[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    # The sum of all bytes is the lower half of Adler-32, but for a 1, modulo 65521: a fifteenth of
    # the time that adding numbers takes.
    rest = header[:148] + b"        " + header[156:]
    if (zlib.adler32(rest) & 0xFFFF) == (stated + 1) % _CHECKSUM_MODULUS:
        return True
    # Some old programs added signed bytes.
    return sum(byte - 256 * (byte > 127) for byte in rest) == stated


def _name(header: bytes) -> bytes:
    name = header[: header.find(b"\0", 0, 100)] if b"\0" in header[:100] else header[:100]
    # GNU's older format has times in the place of a prefix.
    if not header[345] or header[257:263] != b"ustar\0":
        return name
    return header[345:500].partition(b"\0")[0] + b"/" + name


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))
