"""The formats that images are read from, as modules of this package declare them."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from distill.data.sources.base import Source
from distill.data.sources.decoding import Decoding
from distill.errors import UserError, did_you_mean
from distill.modules import modules_in
from distill.paths import data_path, in_bucket, local_path, refuse_remote


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be opened."""

    argument: str
    """What follows the colon of the source's name; empty where nothing does."""
    split: str
    """As TFDS writes splits and slices of them; `distill.data.sources.splits.open_parts` opens
    slices for a format that only knows splits."""
    decoding: Decoding
    """How encoded images become pixels."""
    data_dir: str | None
    """Where TFDS keeps its data sets; None for its default."""
    captions: bool = False
    """Whether the texts that go with images are wanted, too; see `captions_of`."""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of those that the format knows, the values that were named."""

    @property
    def channels(self) -> int:
        """1 for grey or 3 for colour; images are converted."""
        return self.decoding.channels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of data source, named in configs as `NAME` or `NAME:ARGUMENT`."""

    name: str
    argument: Literal["PATH", "NAME"] | None = None
    """What follows the colon: a path on this machine, which is recorded absolute, or a name, which
    is left as it is; None where nothing does."""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What may follow the name of a format without argument, `NAME?size=PIXELS`: of each option,
    what its value is called. Options after a path are the format's own to read."""
    in_buckets: bool = False
    """Whether the path may be that of a bucket."""
    open: Callable[[Request], Source]
    """Opens a split; raises a UserError if it cannot."""

    @property
    def spelled(self) -> str:
        """As a user types it, such as folder:PATH."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


def parts_of(name: str) -> tuple[str, str, str]:
    """Of a source's name, the format's, what follows the colon, and the options before that."""
    kind, _, argument = name.partition(":")
    kind, _, options = kind.partition("?")
    return kind, argument, options


@functools.cache
def known_formats() -> dict[str, Format]:
    """Every format that a module of `distill.data.sources` declares in `FORMATS`, by name.

    Raises:
      ValueError: if two have the same name.
    """
    found = [
        form
        for module in modules_in("distill.data.sources")
        for form in getattr(module, "FORMATS", ())
    ]
    names = Counter(form.name for form in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two modules of distill.data.sources declare a format {', '.join(twice)}")
    return {form.name: form for form in found}


def source_name(text: str, what: str = "data source") -> str:
    """The name of a data source, such as `folder:PATH`, with the path as `data_path` has it.

    Raises:
      UserError: if it is on another machine or has no path, or its kind is nearly a known one.
    """
    kind, argument, _ = parts_of(text)
    form = known_formats().get(kind)
    if form is not None and form.argument == "PATH" and argument:
        check_place(form, argument, what)
        return f"{kind}:{(data_path if form.in_buckets else local_path)(argument, what)}"
    if form is None and "://" not in text and (near := did_you_mean(kind, known_formats())):
        raise UserError(f"{what} is {text!r}, of an unknown kind{near}")
    refuse_remote(text, what)
    return text


def check_place(form: Format, argument: str, what: str) -> None:
    """Checks that a format reads what lies in buckets, if its path is that of one.

    Raises:
      UserError: if it does not.
    """
    if form.argument == "PATH" and in_bucket(argument) and not form.in_buckets:
        raise UserError(
            f"{what} is '{form.name}:{argument}', but {form.spelled} is read from files on this "
            "machine. Copy them here; or, where they are, write them as tars that are read from a "
            f"bucket: distill prepare {form.spelled} --shards=tar --output=DIR. Copy DIR into it, "
            f"and name it prepared:{argument}"
        )


SourceName = Annotated[str, source_name]
"""The name of a data source."""
