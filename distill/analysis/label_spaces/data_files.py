"""Published label files that come with the package; `data/PROVENANCE.md` says whence."""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data"


def read_lines(name: str) -> tuple[str, ...]:
    """The words of a text file, one a line; a name that ends in .gz is unpacked."""
    return tuple(_read_text(name).split())


def read_data(name: str) -> Any:
    """The content of a JSON file; a name that ends in .gz is unpacked."""
    return json.loads(_read_text(name))


def _read_text(name: str) -> str:
    data = (_DATA / name).read_bytes()
    return (gzip.decompress(data) if name.endswith(".gz") else data).decode("ascii")


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet numbers of ImageNet's 1,000 classes; a class's number is its place here."""
    return read_lines("imagenet1k_wnids.txt")


@functools.cache
def imagenet_numbers() -> dict[str, int]:
    """The number of each of ImageNet's classes, by its WordNet number."""
    return {wnid: number for number, wnid in enumerate(imagenet_wnids())}


@functools.cache
def imagenet21k_wnids() -> tuple[str, ...]:
    """The WordNet numbers of ImageNet-21k's 21,843 classes, in the order of big_vision's heads."""
    return read_lines("imagenet21k_goog_wnids.txt.gz")
