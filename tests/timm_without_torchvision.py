"""timm's models where torchvision is absent: it has no CPU build, and they do not need it.

Importing this puts names of torchvision where timm looks for them at its import; none is called.
"""

import enum
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

import pytest

_Interpolation = enum.Enum(
    "InterpolationMode", "NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS"
)


class _Name(type):
    """A class whose attributes are itself."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "InterpolationMode":
            return _Interpolation
        return _Name(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


pytest.importorskip("torch")
if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.append(_Finder())
    try:
        timm = pytest.importorskip("timm")
    finally:
        # Others must not take this for torchvision.
        sys.meta_path.pop()
        for _name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[_name]
else:
    timm = pytest.importorskip("timm")
