"""Standard streams that may be closed, or whose readers may go, while a command goes on."""

import errno
import io
import os
import sys

from absl import logging

from distill.unwritten import naming

# Nobody reads it any more, its terminal has hung up, it is closed, or it is a file on a full disk.
_GONE = {
    errno.EPIPE,
    errno.EIO,
    errno.EBADF,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ESTALE,
}


class _Lasting(io.FileIO):
    """A stream of which the rest is dropped when it cannot be written any more."""

    def write(self, data, /) -> int:
        """Writes, or drops it."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _GONE:
                raise
            _drop(self.fileno())
            return len(memoryview(data).cast("B"))


def _drop(descriptor: int) -> None:
    # Whatever else writes there, such as libraries in C++, is dropped as well.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


class _Named(io.FileIO):
    """Standard output, which errors name: the system names no file that is open."""

    def write(self, data, /) -> int:
        """Writes, as its base does."""
        try:
            with naming("standard output"):
                return super().write(data)
        except OSError as error:
            # What is left must not fail again when Python ends; of a pipe, others see to that.
            if error.errno in _GONE - {errno.EPIPE}:
                _drop(self.fileno())
            raise


def keep_streams(*, output: bool) -> None:
    """Sees to it that nothing fails because nobody reads what is said, or says what failed.

    Streams that were closed when the process was started are opened: else the next file that is
    opened would get their numbers, and what libraries print.

    Args:
      output: whether standard output does not matter either, as to a run whose result is files.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        is_ours = stream is None or _is_plain(stream, getattr(sys, f"__{name}__"))
        if not is_ours:
            continue
        matters = stream is not None and number == 1 and not output
        lasting = _replaced(_Named if matters else _Lasting, number, stream)
        setattr(sys, name, lasting)
        setattr(sys, f"__{name}__", lasting)
        if number == 2:
            logging.get_absl_handler().python_handler.stream = lasting


def _is_plain(stream: object, original: object) -> bool:
    """Whether a stream is the one that Python began with, and not ours yet."""
    # Tests, and programs that call this one, put other objects in its place.
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return False
    return not isinstance(getattr(stream.buffer, "raw", None), _Lasting | _Named)


def _replaced(
    kind: type[io.FileIO], number: int, stream: io.TextIOWrapper | None
) -> io.TextIOWrapper:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number, "w", closefd=False)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace" if stream is None or number == 2 else stream.errors,
        line_buffering=number == 2 or (stream is not None and stream.line_buffering),
    )
