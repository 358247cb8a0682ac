"""Config files: Python files with a function `get_config`."""

import importlib.util
import inspect
import re
from typing import Any

from distill.errors import UserError
from distill.references import tree_of
from distill.shipped import find_config

# A config file and its argument; a colon may also be a URL's.
_SPEC = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^:]*):?(.*)", re.DOTALL)


def load_file(spec: str, folder: str | None = None) -> dict[str, Any]:
    """Runs `get_config` of the file in `spec`, which is `path.py` or `path.py:argument`.

    The path may be the name of a config that comes with the project, such as `pretrain/folder`.
    Values that the file computes from others stay references, which `resolve` evaluates.

    Args:
      spec: as --config has it.
      folder: of the shipped configs, such as `pretrain`, in which one that is not there is sought
        first.

    Raises:
      UserError: if the file is missing, is no config file, or refuses its argument.
    """
    match = _SPEC.fullmatch(spec)
    path, argument = match.groups() if match else (spec, "")
    file = find_config(path, folder)
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None or module_spec.loader is None:
        raise UserError(f"config file {path!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise UserError(f"config file {path!r} does not run: {error}") from error
    if not hasattr(module, "get_config"):
        raise UserError(f"config file {path!r} has no function get_config")
    parameters = inspect.signature(module.get_config).parameters.values()
    if argument and not parameters:
        raise UserError(f"config file {path!r} takes no argument, but got {argument!r}")
    if not argument and any(p.default is p.empty for p in parameters):
        raise UserError(f"config file {path!r} needs an argument: {path}:ARGUMENT")
    try:
        config = module.get_config(argument) if argument else module.get_config()
    except ValueError as error:
        raise UserError(f"config {spec!r}: {error}") from error
    return tree_of(config)
