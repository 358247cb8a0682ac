"""Data sets that Hugging Face's `datasets` saved, read without it.

`Dataset.save_to_disk` writes Arrow streams, one or several to a split, and JSON files beside them;
its cache has the same streams. The index says where in them each image lies.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.sources.base import Source, abbreviate, printable
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import Shard, ShardImages
from distill.data.sources.indexing import open_index
from distill.data.sources.local_files import check_unchanged
from distill.data.sources.reading import persistently
from distill.data.sources.sharded import open_sharded, split_of
from distill.data.sources.shards import find_shards
from distill.data.sources.tables.columns import (
    Choice,
    Columns,
    arrow,
    check_columns,
    features_of,
    find_columns,
)
from distill.data.sources.tables.images import NULL, Places, TableImages, places_in, rows_of
from distill.errors import UserError
from distill.json_files import read_json

# What `map` and `filter` leave in a cache, and what is being written.
_NOT_DATA = ("cache-", "tmp")
# With which a stream ends, and a file that can be read at random begins.
_END, _FILE = b"\xff\xff\xff\xff\x00\x00\x00\x00", b"ARROW1"


def scan_arrow(path: str, shard: Shard, columns: Columns) -> ShardImages:
    """Finds the images in a file of Arrow record batches, reading labels and lengths alone.

    Raises:
      UserError: if it is damaged or compressed, or its columns are others than the first file's.
      RunFailed: if the system fails to read it.
    """
    return persistently(lambda: _scan(path, shard, columns), path)


def _scan(path: str, shard: Shard, columns: Columns) -> ShardImages:
    pa = arrow()
    where = printable(path)
    check_unchanged(path, shard, os.stat(path))
    starts, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    paths, labels = [], []
    with _mapped(path, shard) as mapped, _blame(path, ValueError, pa.ArrowException):
        first = mapped.read_buffer(1).address
        mapped.seek(0)
        schema, batches = _opened(mapped, path)
        check_columns(schema, columns, where)
        for batch in batches:
            images = batch.column(columns.image)
            # Else Arrow ends the process over parts that do not fit.
            images.validate()
            found = _places(images, columns, first, shard.size, where)
            starts.append(found.starts)
            sizes.append(found.sizes)
            if columns.has_path:
                paths.append(pa.compute.struct_field(images, "path"))
            if columns.label:
                labels.append(batch.column(columns.label))
        mapped.seek(shard.size - len(_END))
        ended = mapped.read(len(_END)).endswith((_END, _FILE))
        for column in (*paths, *labels):
            # Else what is damaged may be read beyond its end.
            column.validate(full=True)
        places = Places(np.concatenate(starts), np.concatenate(sizes))
        if not ended:
            cut = f"{shard.name} lacks the mark at its end and may be cut off"
            shard = dataclasses.replace(shard, remarks=(cut,))
        return rows_of(shard, where, places, _joined(paths), _joined(labels), columns)


def _joined(parts: list[Any]) -> Any:
    return arrow().chunked_array(parts) if parts else None


def _mapped(path: str, shard: Shard) -> Any:
    if not shard.size:
        raise _damaged(path, "it has 0 bytes")
    return arrow().memory_map(path)


def _opened(mapped: Any, path: str) -> tuple[Any, Iterator[Any]]:
    """A file's schema, and its record batches, which lie in the memory that it is mapped to."""
    ipc = arrow().ipc
    is_file = mapped.read(len(_FILE)) == _FILE
    mapped.seek(0)
    with _blame(path, OSError, ValueError, arrow().ArrowException):
        reader = ipc.open_file(mapped) if is_file else ipc.open_stream(mapped)

    def batches() -> Iterator[Any]:
        with _blame(path, OSError, ValueError, arrow().ArrowException):
            if is_file:
                yield from map(reader.get_batch, range(reader.num_record_batches))
            else:
                yield from reader

    return reader.schema, batches()


@contextlib.contextmanager
def _blame(path: str, *errors: type[Exception]) -> Iterator[None]:
    """Has errors, as Arrow calls what does not fit, be those of the file."""
    try:
        yield
    except errors as error:
        raise _damaged(path, error) from error


def _damaged(path: str, why: object) -> UserError:
    reason = str(why).strip().partition("\n")[0]
    return UserError(
        f"{printable(path)} is damaged or no Arrow stream: {reason}. Copy it again, or save the "
        "data set again"
    )


def _places(images: Any, columns: Columns, first: int, size: int, where: str) -> Places:
    """Where in the file images are, from where they are in memory."""
    pa = arrow()
    encoded = pa.compute.struct_field(images, "bytes") if columns.nested else images
    if pa.types.is_binary_view(encoded.type):
        raise UserError(
            f"column {columns.encoded!r} of {where} is {encoded.type}; expected binary. Save it "
            "with its columns cast to that"
        )
    data, places = places_in(encoded)
    held = places.starts != NULL
    if not held.any() or not places.sizes.any():
        return places
    stops = places.starts + places.sizes
    if (places.sizes < 0).any() or (places.starts < NULL).any() or (stops > data.size).any():
        raise _damaged(where, "an image would lie outside of its column")
    start = data.address - first
    if not 0 <= start <= size - data.size:
        raise UserError(
            f"{where} is compressed, so that images in it cannot be read at random. Save it as it "
            "is, without compression: images are compressed already"
        )
    places.starts[held] += start
    return places


def _open(request: Request) -> Source:
    path, choice = Choice.parse(request.argument)
    if not os.path.exists(path) and not {*path} & {*"*?[{"}:
        raise UserError(
            f"{printable(path)} does not exist; expected a folder that Dataset.save_to_disk wrote. "
            "Of a data set of the Hub: datasets.load_dataset(NAME).save_to_disk(PATH)"
        )
    shards = find_shards(
        path,
        lambda name: name.lower().endswith(".arrow") and not name.startswith(_NOT_DATA),
        "a folder that Dataset.save_to_disk wrote, with *.arrow; a folder of *.parquet is "
        "parquet:PATH",
    )
    root = Path(shards.root)
    folders = sorted({root, *(root.joinpath(name).parent for name in shards.names)})
    states = {folder: state for folder in folders if (state := _state(folder))}
    names = tuple(name for name in shards.names if _belongs(root / name, states))
    if not names:
        raise UserError(f"{printable(path)} holds no rows: its state.json names no files")
    if left_out := len(shards.names) - len(names):
        shards.left_out[".arrow"] += left_out
    shards = shards._replace(names=names)
    first = root / names[0]
    schema = _schema(first)
    features = features_of(schema, [str(first.parent)])
    columns = find_columns(schema, features, choice, printable(str(first)))
    scan = functools.partial(scan_arrow, columns=columns)
    index = open_index(f"hf-{columns.digest}", shards, scan)
    own = (states.get(root) or {}).get("_split")
    return open_sharded(
        request,
        shards,
        index,
        TableImages,
        class_names=columns.class_names,
        split_of=(lambda shard: own) if own else split_of,
    )


def _schema(path: Path) -> Any:
    with _mapped(str(path), Shard("", path.stat().st_size, 0)) as mapped:
        return _opened(mapped, str(path))[0]


def _state(folder: Path) -> dict[str, Any]:
    """What a saved data set says of itself; nothing of a folder that is none.

    Raises:
      UserError: if it cannot be read, or lacks files.
    """
    file = folder / "state.json"
    if not file.is_file():
        return {}
    state = read_json(file)
    if not isinstance(state, dict):
        raise UserError(f"{file} is damaged: expected an object")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise UserError(
            f"{folder} holds rows and apart from them which of these are chosen, as earlier "
            "versions of datasets saved them. Save it anew: "
            "load_from_disk(PATH).flatten_indices().save_to_disk(ANOTHER)"
        )
    missing = tuple(name for name in _files(state, file) if not (folder / name).is_file())
    if missing:
        raise UserError(
            f"{folder} lacks {abbreviate(missing)}, which its state.json names; copy it again"
        )
    return state


def _files(state: dict[str, Any], file: Path) -> list[str]:
    try:
        return [str(one["filename"]) for one in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged: expected _data_files, a list of objects with filename"
        ) from error


def _belongs(file: Path, states: dict[Path, dict[str, Any]]) -> bool:
    """Whether a file is one that its folder's state names, or is in a folder without."""
    state = states.get(file.parent)
    return state is None or file.name in _files(state, file.parent / "state.json")


FORMATS = (Format(name="hf", argument="PATH", open=_open),)
