"""Paths as users write them: the one way from text to a path, for flags and keys of configs.

A key whose value is a path has one of the types below in its dataclass; `distill.config.resolve`
applies the function that the type names. What is recorded is absolute, so that it means the same
in any directory.
"""

import argparse
import os
import re
import urllib.parse
from pathlib import Path
from typing import Annotated

from distill.errors import UserError

# `Path` makes one slash of two.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LOCAL_URL = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).*)", re.DOTALL)
_HUB = re.compile(r"https?:/+(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# As shells write it, of a whole part of a path.
_VARIABLE = re.compile(r"(?:^|/)(\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\}))(?=/|$)")
_SCHEMES = ("s3://", "gs://")
_BUCKET = re.compile(r"(?:s3|gs)://[^/]*")
# Whatever breaks lines is among them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
IN_ORDER = "in_order"
"""In place of a map of classes: those of the one are those of the other, one after the other."""
SHORT = "short"
"""In place of a file of templates: those that are shipped."""
IN_MEMORY = "ram"
"""In place of a directory: memory that ends with the process, which its workers share."""


def local_path(text: str, what: str = "path") -> str:
    """The absolute path that a text names; links are kept as they are.

    `~` and `~user` are home directories, what is relative is in the current directory, and
    `file:///PATH` is PATH. The path need not exist.

    Args:
      text: as a user writes it.
      what: the key or flag that holds it, for errors.

    Raises:
      UserError: if it is empty, on another machine, or no path.
    """
    path = text
    if local := _LOCAL_URL.fullmatch(text):
        path = urllib.parse.unquote(local[1], errors="surrogateescape")
    elif _URL.match(text):
        raise UserError(
            f"{what} is {text!r}, which is not on this machine; expected a local path. "
            + _how_to_fetch(text)
        )
    if not path.strip():
        raise UserError(f"{what} is {text!r}; expected a path")
    if "\0" in path:
        raise UserError(f"{what} is {text!r}; a path has no null byte")
    path = os.path.expanduser(native(path))
    if path.startswith("~"):
        raise UserError(
            f"{what} is {text!r}, but {path.partition('/')[0]} is no known home directory; give "
            f"the whole path, or ./{text} for a file of this name"
        )
    if (variable := _VARIABLE.search(path)) and not os.path.lexists(path):
        raise UserError(
            f"{what} is {text!r}, with the variable {variable[1]} as it was typed: in single "
            "quotes, and in a file, no shell puts its value there. Use double quotes, or write the "
            "whole path"
        )
    return os.path.abspath(path)


def _how_to_fetch(url: str) -> str:
    """What to do where a URL was given in place of a path."""
    if repository := _HUB.match(url):
        return f"Nothing is downloaded: {download(repository[1])}"
    if url.startswith(("http:/", "https:/")):
        return "Nothing is downloaded: fetch it, with curl -LO for instance, and give that path"
    return "Mount the bucket (with gcsfuse, for instance) or copy what it holds, and give that path"


def is_repository(text: str) -> bool:
    """Whether a text could be the name of a repository on Hugging Face's hub, and no path here."""
    return bool(_REPOSITORY.fullmatch(text)) and not os.path.exists(text.partition("/")[0])


def download(repository: str, *, folder: str = "weights", kind: str = "") -> str:
    """The line that fetches a repository from Hugging Face's hub, and what to give then.

    Args:
      repository: its name, OWNER/NAME.
      folder: where its directory is put.
      kind: such as `dataset`; of models nothing.
    """
    where = f"{folder}/{repository.rpartition('/')[2]}"
    repo_type = f"--repo-type={kind} " if kind else ""
    return f"type hf download {repository} {repo_type}--local-dir={where} and give {where}"


def user_cache() -> Path:
    """This project's directory of what can be made again: $XDG_CACHE_HOME/distill.

    A relative one counts as none (XDG Base Directory Specification): it would be another directory
    wherever a command is started.

    Raises:
      UserError: if it is no local path.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if not named.startswith(("/", "~")) and not _URL.match(named):
        named = "~/.cache"
    return Path(local_path(named, "XDG_CACHE_HOME"), "distill")


def native(path: str) -> str:
    """A path as this process has it, from one that was written in any locale.

    Where the locale's encoding has no name for a byte, Python has a surrogate in its place.
    """
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))


def local_or_remote_path(text: str, what: str = "path") -> str:
    """As `local_path`, but what is on another machine, such as `gs://bucket`, is kept as it is."""
    is_remote = _URL.match(text) and not text.startswith("file:")
    return text if is_remote else local_path(text, what)


def local_or_bucket_path(text: str, what: str = "path") -> str:
    """As `local_path`, or a directory in a bucket: `s3://BUCKET/PATH` or `gs://BUCKET/PATH`.

    Raises:
      UserError: if it is neither.
    """
    if not in_bucket(text):
        return local_path(text, what)
    parts = _bucket_parts(text)
    if len(parts) < 2 or "?" in text:
        raise UserError(f"{what} is {text!r}; expected {text[:5]}BUCKET/PATH")
    return text[:5] + "/".join(parts)


def data_path(text: str, what: str = "path") -> str:
    """As `local_path`, or what lies in a bucket, also all of it: `s3://BUCKET`, `gs://BUCKET/PATH`.

    Raises:
      UserError: if it is neither.
    """
    if not in_bucket(text):
        if _URL.match(text) and not text.startswith("file:"):
            raise UserError(
                f"{what} is {text!r}; expected a local path, s3://BUCKET/PATH or gs://BUCKET/PATH. "
                "Mount what lies elsewhere, or copy it"
            )
        return local_path(text, what)
    if not (parts := _bucket_parts(text)):
        raise UserError(f"{what} is {text!r}; expected {text[:5]}BUCKET/PATH")
    return text[:5] + "/".join(parts)


def _bucket_parts(text: str) -> list[str]:
    """Bucket and folders of a URL; none of what names nothing in a bucket."""
    parts = text.partition("://")[2].rstrip("/").split("/")
    is_path = all(parts) and not {".", ".."} & {*parts} and not has_control(text)
    return parts if is_path else []


def has_control(text: str) -> bool:
    """Whether a text has line breaks or other control characters."""
    return bool(_CONTROL.search(text))


def in_bucket(text: str) -> bool:
    """Whether a text names what lies in a bucket, see `local_or_bucket_path`."""
    return text.startswith(_SCHEMES)


def bucket_of(text: str) -> str | None:
    """The URL of the bucket that a text names something in, such as `s3://bucket`, if it does."""
    # Asked of each image: most texts are told faster than by the expression.
    found = _BUCKET.match(text) if text.startswith(_SCHEMES) else None
    return found[0] if found else None


def refuse_remote(text: str, what: str = "path") -> None:
    """Checks that a text that need not be a path does not name one on another machine.

    Raises:
      UserError: if it does.
    """
    if _URL.match(text):
        local_path(text, what)


def map_or_order(text: str, what: str = "class_map") -> str:
    """`IN_ORDER`, or the absolute path of a map of classes.

    Args:
      text: as a user writes it.
      what: the key or flag that holds it, for errors.

    Raises:
      UserError: if it is no path on this machine, or the word in other characters.
    """
    return _word_or_path(text, IN_ORDER, what)


def memory_or_path(text: str, what: str = "cache") -> str:
    """`IN_MEMORY`, or the absolute path of a directory.

    Args:
      text: as a user writes it.
      what: the key or flag that holds it, for errors.

    Raises:
      UserError: if it is no path on this machine, or the word in other characters.
    """
    return _word_or_path(text, IN_MEMORY, what)


def templates_or_path(text: str, what: str = "templates") -> str:
    """`SHORT`, a template, which has `{}`, or the absolute path of a file of templates.

    Args:
      text: as a user writes it.
      what: the key or flag that holds it, for errors.

    Raises:
      UserError: if it is no path on this machine, or the word in other characters.
    """
    return text if "{}" in text else _word_or_path(text, SHORT, what)


def _word_or_path(text: str, word: str, what: str) -> str:
    letters = re.sub(r"[\W_]", "", text).lower()
    if text != word and os.sep not in text and letters == word.replace("_", ""):
        raise UserError(
            f"{what} is {text!r}; did you mean {word!r}? A path of this name is ./{text}"
        )
    return text if text == word else local_path(text, what)


LocalPath = Annotated[str, local_path]
"""A path on this machine, also WORKDIR@STEP."""
WorkdirPath = Annotated[str, local_or_bucket_path]
"""A directory on this machine or in a bucket."""
AnyPath = Annotated[str, local_or_remote_path]
"""A path that is read by a library that also reads from buckets."""
ClassMap = Annotated[str, map_or_order]
"""A JSON file that says which class is which, or `IN_ORDER`."""
Templates = Annotated[str, templates_or_path]
"""A file of templates, `SHORT`, or a template."""
CachePath = Annotated[str, memory_or_path]
"""A directory, or `IN_MEMORY`."""


def check_reachable(path: Path, what: str = "path") -> Path:
    """The path, which may be missing; a path that could not even be created is refused.

    Raises:
      UserError: if a part of it is a file, a name is too long, or a directory may not be entered.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(
            f"{what} cannot be {path}: {error.strerror}; choose another {what}"
        ) from error
    return path


def check_utf8(path: Path, what: str) -> None:
    """Checks a path whose files are written by a library in C++ that takes none but UTF-8.

    Raises:
      UserError: if it is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} is {os.fsencode(path)!r}, which is not UTF-8; choose another {what}"
        ) from error


def path_argument(text: str) -> Path:
    """`local_path` as the type of an argument of argparse.

    Raises:
      ArgumentTypeError: where `local_path` and `check_reachable` raise a UserError.
    """
    try:
        return check_reachable(Path(local_path(text)))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def text_of(name: str) -> str:
    """The text of a file's or folder's name; names are UTF-8, whatever the locale says.

    Raises:
      UserError: if it is not UTF-8, is blank, or has line breaks or other control characters.
    """
    try:
        text = os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"the name {os.fsencode(name)!r} is not UTF-8; rename it") from error
    if control := _CONTROL.search(text):
        raise UserError(f"the name {text!r} has the control character {control[0]!r}; rename it")
    if not text.strip():
        raise UserError(f"the name {text!r} has no letters; rename it")
    return text
