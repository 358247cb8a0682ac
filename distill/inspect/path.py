"""A path, whatever it holds."""

import os
from pathlib import Path
from typing import NoReturn

from distill.errors import UserError
from distill.inspect import checkpoint, export, run, store
from distill.inspect.checkpoint import checkpoint_table, steps_in
from distill.inspect.kind import Kind
from distill.inspect.tables import facts, sections, tensor_table
from distill.inspect.weights import published
from distill.paths import download, is_repository
from distill.tensor_files import SUFFIXES, open_file, refuse_pickle
from distill.terminal import text_table

KINDS = (run.KIND, store.KIND, export.KIND, checkpoint.KIND)
"""In the order in which they are listed; a directory is one of them at most."""


def kind_of(path: Path) -> Kind | None:
    """What a directory is, if it is one of `KINDS`."""
    return next((kind for kind in KINDS if kind.is_one(path)), None)


def tell(path: Path) -> str:
    """What a path holds, for a person to read.

    Raises:
      UserError: if there is nothing, or nothing that is known, or it is damaged.
    """
    try:
        if not path.exists():
            given = os.path.relpath(path)
            hint = f"; of a repository, {download(given)}" if is_repository(given) else ""
            raise UserError(f"{path} does not exist{hint}")
        return _file(path) if path.is_file() else _directory(path)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def _file(path: Path) -> str:
    if path.suffix in SUFFIXES:
        file = open_file(path)
        return sections(
            f"{path}: weights", facts(file.metadata), *published(path), tensor_table(file.tensors)
        )
    refuse_pickle(path)
    _refuse(
        path,
        f"none of the files that are known: {' and '.join(SUFFIXES)}; of a run, a checkpoint, "
        "stored targets or an export, name the directory",
    )


def _directory(path: Path) -> str:
    if kind := kind_of(path):
        exports = _tables(path / "export").values() if kind is run.KIND else ()
        return sections(f"{path}: {kind.name}", *kind.tell(path), *exports)
    if steps := steps_in(path):
        return sections(f"{path}: checkpoints", checkpoint_table(path, steps))
    parts = [_file(file) for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
    if lying := _tables(path):
        parts += [f"{path}: {', '.join(lying)}", *lying.values()]
    if not parts:
        for file in sorted(path.iterdir()):
            refuse_pickle(file)
        _refuse(
            path,
            "neither the workdir of a run, nor a checkpoint, stored targets, an export, or a "
            "directory of any of them, or of weights",
        )
    return sections(*parts)


def _refuse(path: Path, what: str) -> NoReturn:
    """Says that a path cannot be told alone, and what it is part of."""
    for folder in path.parents:
        if kind := kind_of(folder):
            raise UserError(f"{path} is part of {kind.name}: distill inspect {folder}")
    raise UserError(f"{path} is {what}")


def _tables(root: Path) -> dict[str, str]:
    """What lies in the directories below one, a table for each kind that there is."""
    below: dict[str, list[Path]] = {}
    for folder, names, _ in os.walk(root):
        # Hidden ones are of exports that are not finished.
        names[:] = sorted(name for name in names if not name.startswith("."))
        path = Path(folder)
        if path != root and (kind := kind_of(path)):
            below.setdefault(kind.name, []).append(path)
            if kind is checkpoint.KIND:
                names.clear()
    return {
        kind.listed: _table(root, kind, below[kind.name])
        for kind in KINDS
        if kind.listed and kind.name in below
    }


def _table(root: Path, kind: Kind, paths: list[Path]) -> str:
    """A line for each path; of one that is damaged it says that alone."""
    rows = []
    for path in paths:
        try:
            shown = kind.row(path) if kind.row else ()
        except UserError:
            shown = ("damaged", *[""] * (len(kind.header) - 2))
        rows.append((str(path.relative_to(root)), *shown))
    return text_table(kind.header, rows)
