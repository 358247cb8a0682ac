"""What could not be written, why, and what to do: as one message, whichever library met it."""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.errors import RunFailed, UserError

# By what the system says, what a user can do about it.
_TO_DO = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have your quota raised",
    errno.EFBIG: "the file system or a limit (ulimit -f) takes no file as large: raise it",
    errno.EROFS: "have the file system mounted for writing",
    errno.EACCES: "give yourself the right to write there",
    errno.EPERM: "give yourself the right to write there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files",
}
# These are also met by whoever only reads: they count where something was being written.
_ALSO_OF_READING = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
# As libraries repeat it that have their own errors.
_WORDS = {
    code: re.compile(rf"{re.escape(os.strerror(code))}|\b{errno.errorcode[code]}\b", re.IGNORECASE)
    for code in _TO_DO
}
_PATH = re.compile(r"(?<![\w./])(/[^\s\"':,;\[\]()]*[^\s\"':,;\[\]().])")


# Of what Orbax has not finished, the name that it would get.
_UNFINISHED = re.compile(r"(\.orbax-checkpoint-tmp|/\.exporting-).*", re.DOTALL)


class CannotWrite(RunFailed):
    """The system did not take what was to be written; what was finished before stays."""


def cannot_write(
    error: BaseException, go_on: str, within: Path | None = None
) -> CannotWrite | None:
    """The error to end with, if something could not be written; None if that is not what happened.

    Args:
      error: whichever was raised; the errors that led to it are looked at, too.
      go_on: what is there and what to run again, as sentences.
      within: where files are written; elsewhere, lacking rights and too many open files count only
        if they were met by `naming`.
    """
    for one in _all(error):
        if isinstance(one, CannotWrite):
            return one
        code = _code(one)
        file = None if code is None else _file(one)
        if code is None or (code in _ALSO_OF_READING and not _was_written(one, file, within)):
            continue
        what = file or ("a file" if within is None else f"a file in {within}")
        return CannotWrite(
            f"{what} cannot be written: {os.strerror(code)}; {_TO_DO[code]}. {go_on}"
        )
    return None


def _all(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [more for more in (one.__cause__, one.__context__) if more is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def is_of_storage(text: str) -> bool:
    """Whether a library's error says that files cannot be written: not that memory ran out."""
    return any(words.search(text) for words in _WORDS.values())


def _code(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _TO_DO else None
    # A message of ours that quotes the system says by itself what to do.
    if isinstance(error, RunFailed) or not isinstance(error, Exception):
        return None
    text = str(error)
    return next((code for code, words in _WORDS.items() if words.search(text)), None)


def _file(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        names = [one for one in (error.filename2, error.filename) if isinstance(one, str | bytes)]
        return _UNFINISHED.sub("", os.fsdecode(names[0])) if names else None
    found = _PATH.findall(str(error))
    return _UNFINISHED.sub("", max(found, key=len)) if found else None


_MARK = "_distill_was_being_written"


def _was_written(error: BaseException, file: str | None, within: Path | None) -> bool:
    if getattr(error, _MARK, False):
        return True
    return file is not None and within is not None and Path(file).is_relative_to(within)


@contextlib.contextmanager
def naming(file: str | Path) -> Iterator[None]:
    """Names a file in the system's errors while it is written; the system names none that is open.

    Raises:
      OSError: the same, with the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            # A temporary name tells nobody anything.
            error.filename, error.filename2 = str(file), None
        setattr(error, _MARK, True)
        raise


@contextlib.contextmanager
def whole_or_not(temporary: Path, file: Path) -> Iterator[None]:
    """While a file is written under a temporary name, which is removed if that fails.

    Args:
      temporary: the name; the body renames it.
      file: what it becomes.

    Raises:
      OSError: naming the file.
    """
    try:
        with naming(file):
            yield
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def explained(go_on: Callable[[], str], within: Path | None = None) -> Iterator[None]:
    """Turns errors of what could not be written into one that says what to do.

    Args:
      go_on: says what is there and what to run again.
      within: as `cannot_write` has it.

    Raises:
      CannotWrite: if something could not be written.
    """
    try:
        yield
    except UserError:
        # It says by itself what is wrong.
        raise
    except Exception as error:
        if found := cannot_write(error, go_on(), within):
            raise found from error
        raise
