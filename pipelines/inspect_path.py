"""Says what a path holds: a run, a checkpoint, weights, stored targets, or an export.

  distill inspect runs                     what lies in it
  distill inspect runs/student
  distill inspect runs/student/checkpoints
  distill inspect runs/student/checkpoints/10
  distill inspect runs/student/export/1
  distill inspect model.safetensors

Shapes, parameters, step, lineage and signatures, read from descriptions and headers: no model is
loaded, no parameter is read, and nothing is unpickled.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from absl import flags

from distill.command.flags import define_path, parse
from distill.command.launch import launch
from distill.data.sources import abbreviate
from distill.errors import UserError
from distill.report.contents import facts, sections, shape_text, tensor_table
from distill.report.text import text_table
from distill.tensor_files import SUFFIXES, open_file, refuse_pickle
from pipelines.inspect_kinds import (
    TELL,
    checkpoint_table,
    export_row,
    kind_of,
    run_row,
    steps_in,
    store_row,
)
from teachers.pretrained import open_published

FLAGS = flags.FlagValues()
define_path("path", "What to look at; --path= may be left out.", FLAGS)


def run(path: Path) -> str:
    """What a path holds, for a person to read.

    Raises:
      UserError: if there is nothing, or nothing that is known, or it is damaged.
    """
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist")
        return _file(path) if path.is_file() else _directory(path)
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def _file(path: Path) -> str:
    if path.suffix in SUFFIXES:
        file = open_file(path)
        return sections(
            f"{path}: weights", facts(file.metadata), _published(path), tensor_table(file.tensors)
        )
    refuse_pickle(path)
    _refuse(
        path,
        f"none of the files that are known: {' and '.join(SUFFIXES)}; of a run, a checkpoint, "
        "stored targets or an export, name the directory",
    )


def _published(path: Path) -> str:
    """What a published model is and what it is fed, or why it cannot be read as one."""
    try:
        found = open_published(path)
    except UserError as error:
        return facts({"no published model that can be read": str(error).partition("\n")[0]})
    network = found.network
    config, classes = network.config, abbreviate(found.class_names)
    return facts(
        {
            "published": found.family,
            "parameters": f"{network.parameter_count():,}",
            "width": config.width,
            "depth": config.depth,
            "head": config.head,
            "images": shape_text(config.image_shape),
            "shown": found.view.described(max(config.image_shape[:2])),
            "mean": ", ".join(f"{value:.6g}" for value in config.mean),
            "std": ", ".join(f"{value:.6g}" for value in config.std),
            "classes": f"{config.num_classes}" + (f": {classes}" if classes else ""),
        }
    )


def _directory(path: Path) -> str:
    if kind := kind_of(path):
        exports = _tables(path / "export").values() if kind == "a run" else ()
        return sections(f"{path}: {kind}", *TELL[kind](path), *exports)
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
            raise UserError(f"{path} is part of {kind}: distill inspect {folder}")
    raise UserError(f"{path} is {what}")


def _tables(root: Path) -> dict[str, str]:
    """What lies in the directories below one, a table for each kind that there is."""
    below: dict[str, list[Path]] = {}
    for folder, names, _ in os.walk(root):
        # Hidden ones are of exports that are not finished.
        names[:] = sorted(name for name in names if not name.startswith("."))
        path = Path(folder)
        if path != root and (kind := kind_of(path)):
            below.setdefault(kind, []).append(path)
            if kind == "a checkpoint":
                names.clear()
    tables = {
        "runs": (("run", "pipeline", "step", "state", "metric"), "a run", run_row),
        "stored targets": (("targets", "examples"), "stored targets", store_row),
        "exports": (("export", "format", "step"), "an export", export_row),
    }
    return {
        name: _table(root, header, below[kind], row)
        for name, (header, kind, row) in tables.items()
        if kind in below
    }


def _table(
    root: Path,
    header: tuple[str, ...],
    paths: list[Path],
    row: Callable[[Path], tuple[str, ...]],
) -> str:
    """A line for each path; of one that is damaged it says that alone."""
    rows = []
    for path in paths:
        try:
            shown = row(path)
        except UserError:
            shown = ("damaged", *[""] * (len(header) - 2))
        rows.append((str(path.relative_to(root)), *shown))
    return text_table(header, rows)


def main(arguments: list[str]) -> None:
    """Prints what the path holds."""
    if not arguments:
        raise UserError("give a path: distill inspect PATH")
    first, *rest = arguments
    parse(FLAGS, [first if first.startswith("-") else f"--path={first}", *rest], ("path",))
    print(run(Path(FLAGS.path)))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
