"""Sets that a new file extends: every module of a package is loaded, and says what it adds."""

import functools
import importlib
import pkgutil
from types import ModuleType


@functools.cache
def modules_in(package: str) -> tuple[ModuleType, ...]:
    """The public modules right in a package, loaded, in the order of their names.

    Packages in it are left alone.

    Args:
      package: its dotted name.
    """
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    names = sorted(one.name for one in found if not one.ispkg and not one.name.startswith("_"))
    return tuple(importlib.import_module(f"{package}.{name}") for name in names)
