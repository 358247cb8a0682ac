"""The configs that come with the project, by name from any directory."""

import ast
import difflib
import functools
import importlib.resources
from pathlib import Path, PurePath

from distill.errors import UserError
from distill.paths import check_reachable, local_path

_PACKAGE = "configs"


def find_config(path: str, folder: str | None = None) -> Path:
    """The config file at a path, or else the shipped one of that name.

    Args:
      path: as a user writes it: a path, or a name such as `pretrain/folder`, with or without
        `configs/` before it and `.py` after it.
      folder: of the configs that are meant rather than others, where the path names none.

    Raises:
      UserError: if there is neither.
    """
    file = check_reachable(Path(local_path(path, "--config")), "--config")
    if file.is_file():
        return file
    parts = PurePath(path).parts
    parts = parts[1:] if parts[:1] == (_PACKAGE,) else parts
    name = "/".join(parts).removesuffix(".py")
    files = shipped_configs()
    if name in files:
        return files[name]
    own = [] if "/" in name else [one for one in files if one.startswith(f"{folder}/")]
    near = _nearest(name, tuple(own)) or _nearest(name, tuple(files))
    guess = f"did you mean --config={near}? " if near else ""
    raise UserError(
        f"config file {path!r} does not exist (working directory {Path.cwd()}), and no config "
        f"of that name comes with the project; {guess}`distill configs` lists them"
    )


@functools.cache
def shipped_configs() -> dict[str, Path]:
    """Files by name, such as `pretrain/folder`, in the order of the names."""
    root = Path(str(importlib.resources.files(_PACKAGE)))
    files = sorted(root.glob("*/[!_]*.py"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def headline(file: Path) -> str:
    """The first line of a config file's docstring; empty if it has none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    """The name that resembles another most, or whose last part resembles its last part."""
    last = name.rpartition("/")[2]
    by_last = {known.rpartition("/")[2]: known for known in reversed(names)}
    if near := difflib.get_close_matches(name, names, 1, 0.7):
        return near[0]
    near = difflib.get_close_matches(last, by_last, 1)
    return by_last[near[0]] if near else None
