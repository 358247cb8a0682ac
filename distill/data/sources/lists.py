"""Images that a table in CSV or TSV lists, with their labels."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from distill.data.sources.base import (
    MissingSplit,
    Source,
    cached_property,
    count,
    fingerprint_of,
    labelled,
    printable,
)
from distill.data.sources.captions import CaptionTable, caption_columns, captions_in
from distill.data.sources.class_lists import (
    classes_of,
    label_text,
    read_class_names,
    unknown_class,
)
from distill.data.sources.decoding import Decoding, suffixes
from distill.data.sources.file_table import FileTable
from distill.data.sources.folders import ImageFiles
from distill.data.sources.formats import Format, Request
from distill.data.sources.layout import drawn, pick_split
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import LeftOut
from distill.data.sources.splits import open_parts
from distill.data.sources.together import once
from distill.errors import UserError
from distill.paths import in_bucket

# What columns may be called, in capitals or not; Hugging Face's image folders say file_name.
_COLUMNS = {
    "path": ("path", "image", "file", "file_name"),
    "label": ("label", "class"),
    "split": ("split",),
}
_SUFFIXES = (".csv", ".tsv")
_EXPECTED = (
    "expected a line of names, path and perhaps label and split, or lines of a path and a label, "
    "or captions where they are read, without one"
)


class Table(NamedTuple):
    """The lines of a list."""

    file: str
    paths: list[str]
    """Of images, from the list's folder, or whole ones, also in buckets."""
    labels: list[str | None]
    splits: list[str] | None
    """None where the list has no such column."""
    lines: list[int]
    """The line of each, from 1."""
    captions: list[tuple[str, ...]] | None = None
    """None where none are wanted or the list has no such column."""


def read_table(file: str, *, captions: bool = False) -> Table:
    """Reads a list: CSV, or TSV if it is called so or its first line has a tab.

    Args:
      file: the list.
      captions: whether its captions are wanted; lines of one image then become one.

    Raises:
      UserError: naming the line that cannot be read.
    """
    try:
        with (
            storage_of(file).open(file) as opened,
            io.TextIOWrapper(
                opened, encoding="utf-8-sig", errors="surrogateescape", newline=""
            ) as lines,
        ):
            first = lines.readline()
            lines.seek(0)
            is_tabbed = file.lower().endswith(".tsv") or "\t" in first
            rows = csv.reader(lines, delimiter="\t" if is_tabbed else ",", strict=True)
            table = _table(file, rows, captions)
            return table if table.captions is None else _joined(table, table.captions)
    except OSError as error:
        raise UserError(f"{printable(file)} cannot be read: {error.strerror}") from error


def _table(file: str, rows: Any, captions: bool) -> Table:
    """The table of a reader's rows."""
    filled = _filled(file, rows)
    first = next(filled, None)
    if first is None:
        raise UserError(f"{printable(file)} is empty; {_EXPECTED}")
    columns, is_header = _columns(file, first, captions)
    width = len(first)
    captions_at = range(1, width) if captions else ()
    if captions and is_header:
        captions_at = caption_columns(first)
    splits, texts_of_images = [] if "split" in columns else None, [] if captions_at else None
    table = Table(file, [], [], splits, [], texts_of_images)
    path_at, label_at, split_at = columns["path"], columns.get("label"), columns.get("split")
    texts: dict[str, str | None] = {}
    for row in filled if is_header else _and_rest(first, filled):
        line = rows.line_num
        if len(row) != width:
            raise _wrong(file, line, f"has {count(len(row), 'column')} and not {width}")
        path = row[path_at]
        if not path.strip() or "\0" in path or ("://" in path and not in_bucket(path)):
            raise _wrong(file, line, f"has {path!r} in place of an image's path")
        if label_at is not None and row[label_at] not in texts:
            texts[row[label_at]] = _label(file, line, row[label_at])
        table.paths.append(path)
        table.labels.append(None if label_at is None else texts[row[label_at]])
        table.lines.append(line)
        if table.splits is not None and split_at is not None:
            table.splits.append(row[split_at].strip())
        if table.captions is not None:
            table.captions.append(_captions(file, line, [row[place] for place in captions_at]))
    return table


def _joined(table: Table, captions: Sequence[tuple[str, ...]]) -> Table:
    """The table with one line for each image, which has the captions of all its lines.

    Raises:
      UserError: if lines of an image differ in label or split.
    """
    places: dict[str, list[int]] = {}
    for place, path in enumerate(table.paths):
        places.setdefault(path, []).append(place)
    for first, *others in places.values():
        for what, said in (("label", table.labels), ("split", table.splits)):
            wrong = next((one for one in others if said and said[one] != said[first]), None)
            if wrong is not None:
                raise _wrong(
                    table.file,
                    table.lines[wrong],
                    f"gives {table.paths[first]!r} another {what} than line {table.lines[first]:,}",
                )
    firsts = [some[0] for some in places.values()]
    return Table(
        table.file,
        [*places],
        [table.labels[place] for place in firsts],
        table.splits and [table.splits[place] for place in firsts],
        [table.lines[place] for place in firsts],
        [tuple(one for place in some for one in captions[place]) for some in places.values()],
    )


def _filled(file: str, rows: Any) -> Iterator[list[str]]:
    """The rows that are not empty."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _wrong(file, rows.line_num, f"cannot be read: {error}") from error
        if row:
            yield row


def _and_rest(first: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rest


def _columns(file: str, first: Sequence[str], captions: bool) -> tuple[dict[str, int], bool]:
    """Where columns are, and whether the first row names them."""
    names = [name.strip().lower() for name in first]
    columns = {}
    for column, known in _COLUMNS.items():
        places = [place for place, name in enumerate(names) if name in known]
        if len(places) > 1:
            both = " and ".join(repr(first[place]) for place in places)
            raise _wrong(file, 1, f"names {both}, which mean the same; {_EXPECTED}")
        if places:
            columns[column] = places[0]
    if "path" in columns:
        return columns, True
    most = len(first) if captions else 2
    if len(first) > most or os.path.splitext(names[0])[1] not in suffixes():
        raise _wrong(file, 1, f"is {', '.join(map(repr, first[:5]))}; {_EXPECTED}")
    known = ("path",) if captions else ("path", "label")
    return dict(zip(known, range(len(first)), strict=False)), False


def _label(file: str, line: int, written: str) -> str | None:
    try:
        return label_text(written)
    except UserError as error:
        raise _wrong(file, line, f"has a label that is none: {error}") from error


def _captions(file: str, line: int, cells: Sequence[str]) -> tuple[str, ...]:
    try:
        return captions_in(cells)
    except UserError as error:
        raise _wrong(file, line, f"cannot be read: {error}") from error


def _wrong(file: str, line: int, what: str) -> UserError:
    return UserError(f"{printable(file)}, line {line:,} {what}")


class ListedImages(ImageFiles):
    """The images of a list, or of some of its lines, in its order.

    Args:
      table: the list.
      chosen: the places of its images in it, int [N].
      class_names: in order; empty takes the labels of the list.
      decoding: how files become pixels.
      drawn_from: how many images the split was drawn from; None if it was not.

    Raises:
      UserError: if a label is none of `class_names`.
    """

    def __init__(
        self,
        table: Table,
        chosen: np.ndarray,
        class_names: tuple[str, ...],
        decoding: Decoding,
        drawn_from: int | None,
    ):
        root = os.path.dirname(table.file)
        self.class_names, labels = _classes(table, class_names, root)
        self._drawn_from = "" if drawn_from is None else f", drawn from {drawn_from:,}"
        self._captions = None
        if (captions := table.captions) is not None:
            self._captions = CaptionTable.of(captions[place] for place in chosen)
        files = FileTable.of_paths(root, map(table.paths.__getitem__, chosen.tolist()))
        super().__init__(files, labels[chosen], LeftOut(), decoding)

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' paths and sizes in order, labels, captions, and the classes' names."""
        captions = [] if self._captions is None else [*self._captions.parts]
        return fingerprint_of(super().fingerprint, self.labels.astype("<i4").tobytes(), *captions)

    def captions(self, index: int) -> tuple[str, ...]:
        """Those of the list; without a column of them, those of the file beside the image."""
        return super().captions(index) if self._captions is None else self._captions[index]

    def _images(self) -> str:
        classes = len(self.class_names)
        if not classes:
            return f"{count(len(self), 'image')}{self._drawn_from} without labels"
        without = int((self.labels < 0).sum())
        some = f"; {without:,} without labels" if without else ""
        return f"{labelled(len(self), classes)}{self._drawn_from}{some}"


def _classes(
    table: Table, names: tuple[str, ...], folder: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of classes, and the class of each line, int32."""
    texts = list(dict.fromkeys(text for text in table.labels if text is not None))
    if not texts:
        return (), np.full(len(table.paths), -1, np.int32)
    class_names, numbers, unknown = classes_of(texts, names)
    if unknown:
        text = texts[unknown[0]]
        where = f"{printable(table.file)}, line {table.lines[table.labels.index(text)]:,}"
        raise unknown_class(text, where, class_names, folder)
    number: dict[str | None, int] = dict(zip(texts, numbers.tolist(), strict=True)) | {None: -1}
    return class_names, np.array([number[text] for text in table.labels], np.int32)


def _files(path: str) -> dict[str, str]:
    """The lists in a folder, or the one list, by what they are called without their suffix."""
    there = storage_of(path)
    if not there.is_folder(path):
        return {os.path.splitext(os.path.basename(path))[0]: path}
    names = sorted(name for name in there.names(path) if name.lower().endswith(_SUFFIXES))
    if not names:
        raise UserError(
            f"{printable(path)} holds no lists; expected one, or files such as train.csv and "
            "val.csv"
        )
    files: dict[str, str] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        if stem in files:
            raise UserError(
                f"{printable(path)} holds {os.path.basename(files[stem])} and {name}, and either "
                f"could be the list {stem}; keep one of them there"
            )
        files[stem] = os.path.join(path, name)
    return files


def open_list(path: str, split: str, decoding: Decoding, *, captions: bool = False) -> ListedImages:
    """Opens a whole split: lines that say so, a list that is called so, or what is drawn.

    Args:
      path: of a list, or of a folder of lists.
      split: its name.
      decoding: how files become pixels.
      captions: whether captions are wanted.

    Raises:
      UserError: if there is no such split, or a line that cannot be read.
    """
    files, what = _files(path), f"list:{printable(path)}"
    if len(files) > 1:
        name, bounds = pick_split(split, list(files), what)
        if name is None:
            raise MissingSplit(
                f"{what} holds the lists {', '.join(files)}, of which none is called {split!r}; "
                "name one of them in place of the folder, or call lists by their splits"
            )
        return _images(_table_in(files[name], captions), None, None, decoding)
    ((stem, file),) = files.items()
    table = _table_in(file, captions)
    if table.splits is not None:
        name, bounds = pick_split(split, list(dict.fromkeys(table.splits)), what)
        return _images(table, bounds, name, decoding)
    _, bounds = pick_split(split, [stem], what)
    return _images(table, bounds, None, decoding)


def _table_in(file: str, captions: bool) -> Table:
    return once(("list", file, captions), lambda: read_table(file, captions=captions))


def _images(
    table: Table, bounds: tuple[float, float] | None, split: str | None, decoding: Decoding
) -> ListedImages:
    """The images of a split of a table: by its column, drawn, or all."""
    chosen, drawn_from = np.arange(len(table.paths)), None
    if split is not None:
        chosen = np.flatnonzero([one == split for one in table.splits or ()])
    elif bounds is not None:
        drawn_from = len(chosen)
        chosen = drawn([os.fsencode(path) for path in table.paths], bounds)
    names = read_class_names(os.path.dirname(table.file))
    return ListedImages(table, chosen, names, decoding, drawn_from)


def _open(request: Request) -> Source:
    return open_parts(
        request.split,
        lambda whole: open_list(
            request.argument, whole, request.decoding, captions=request.captions
        ),
    )


FORMATS = (Format(name="list", argument="PATH", in_buckets=True, open=_open),)
