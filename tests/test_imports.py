"""Imports run one way, and a file holds one idea."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support import REPOSITORY

# A package of `distill`, or one beside it, imports from layers before its own alone. Those of one
# layer do not know each other.
LAYERS = (
    ("bounds", "errors", "startup"),
    ("dense_view", "evaluation_view", "modules", "names", "paths", "references", "terminal"),
    ("begun", "unwritten"),
    ("json_files", "machine", "shipped"),
    ("buckets", "checksums", "moved", "tensor_files"),
    ("analysis", "config"),
    ("data", "optim", "parallel"),
    ("nn",),
    ("losses", "metrics", "mixing", "students", "teachers"),
    ("subject",),
    ("evaluate",),
    ("tasks",),
    ("train",),
    ("runs",),
    ("estimate", "export", "laws"),
    ("inspect", "report"),
    ("auto",),
    ("serving",),
    ("command",),
    ("pipelines",),
    ("api",),
    ("benchmarks", "website"),
)
RANKS = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}
ROOTS = ("distill", "students", "teachers", "pipelines", "benchmarks", "website")

# Other commands are what these are made of.
OF_COMMANDS = ("pipelines.auto", "pipelines.demo", "pipelines.scaling_study")

LONGEST_FILE = 400
LONGEST_PAGE = 150


def _modules() -> dict[str, Path]:
    """The project's modules by dotted name."""
    found = {}
    for root in ROOTS:
        for file in sorted((REPOSITORY / root).rglob("*.py")):
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = _modules()


def _imported(name: str, source: str, is_package: bool, modules: Mapping) -> Iterator[str]:
    """What a module imports of the project, wherever in it that is said."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level + is_package or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            parts = [f"{base}.{alias.name}" for alias in node.names]
            found = [part if part in modules else base for part in parts]
        else:
            continue
        yield from (one for one in found if one in modules and one != name)


def _graph() -> dict[str, set[str]]:
    return {
        name: set(
            _imported(name, file.read_text("utf-8"), file.name == "__init__.py", MODULES),
        )
        for name, file in MODULES.items()
    }


IMPORTS = _graph()


def _package(module: str) -> str:
    """The part of the table that a module belongs to; of `distill` itself, nothing."""
    root, _, rest = module.partition(".")
    return rest.partition(".")[0] if root == "distill" else root


def _edges() -> list[tuple[str, str]]:
    return [(name, one) for name, found in IMPORTS.items() for one in sorted(found)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import distill.nn.vit", ["distill.nn.vit"]),
        ("from distill.nn import vit, ViT", ["distill.nn.vit", "distill.nn"]),
        ("def f():\n    from distill.data import loader", ["distill.data.loader"]),
        ("from .views import draw", ["distill.data.views"]),
        ("from ..nn import vit", ["distill.nn.vit"]),
        ("from . import views", ["distill.data.views"]),
        ("import jax\nfrom os import path", []),
    ],
)
def test_imports_are_recognised(source, found):
    modules = dict.fromkeys(("distill.nn", "distill.nn.vit", "distill.data", "distill.data.views"))
    modules["distill.data.loader"] = None
    assert list(_imported("distill.data.store", source, False, modules)) == found


def test_no_modules_import_each_other_in_a_circle():
    try:
        graphlib.TopologicalSorter(IMPORTS).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' ← '.join(error.args[1])}")


def test_every_package_has_its_place():
    assert {_package(name) for name in MODULES} - {""} <= RANKS.keys()


def test_packages_import_from_lower_layers_alone():
    wrong = [
        f"{name} imports {one}"
        for name, one in _edges()
        if _package(one) not in ("", _package(name))
        and RANKS[_package(name)] <= RANKS[_package(one)]
    ]
    assert wrong == []


def test_training_knows_no_task():
    wrong = {
        name for name, one in _edges() if (_package(name), _package(one)) == ("train", "tasks")
    }
    assert wrong == set()


def test_commands_stand_on_the_library_alone():
    wrong = [
        f"{name} imports {one}"
        for name, one in _edges()
        if _package(name) == _package(one) == "pipelines" and name not in OF_COMMANDS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("folders", "most"),
    [((*ROOTS, "configs", "tests"), LONGEST_FILE), (("pipelines",), LONGEST_PAGE)],
)
def test_no_file_is_too_long(folders, most):
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]
    lines = {
        str(file.relative_to(REPOSITORY)): len(file.read_text("utf-8").splitlines())
        for file in files
    }
    assert {name: count for name, count in lines.items() if count > most} == {}
