"""What a dataclass says of its fields: the strings below them."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path


@functools.cache
def field_docs(schema: type) -> Mapping[str, str]:
    """The text below each field, on one line; nothing of a class whose source is not there.

    A field that is declared again without a text keeps that of the base. One that no source
    declares says it in its metadata, as `help`.
    """
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__):
        if "__dataclass_fields__" in vars(one):
            found |= _own(one)
    made = {one.name: one.metadata.get("help") for one in dataclasses.fields(schema)}
    return found | {name: _one_line(text) for name, text in made.items() if text}


def _own(schema: type) -> dict[str, str]:
    body = _body(schema)
    return {
        field.target.id: _one_line(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _body(schema: type) -> list[ast.stmt]:
    """The statements of a class."""
    try:
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
        return found.body if isinstance(found, ast.ClassDef) else []
    except (OSError, TypeError):
        pass
    # Of a module that was run as `__main__` by another one, its functions know the file.
    for value in vars(schema).values():
        code = getattr(value, "__code__", None)
        if code and code.co_qualname == f"{schema.__qualname__}.{code.co_name}":
            tree = ast.parse(Path(code.co_filename).read_text(encoding="utf-8"))
            classes = (one for one in tree.body if isinstance(one, ast.ClassDef))
            return next((one.body for one in classes if one.name == schema.__name__), [])
    return []


def headline(schema: type) -> str:
    """The first sentence of a dataclass's docstring; empty where it has none of its own."""
    text = _one_line(vars(schema).get("__doc__") or "")
    # dataclasses write a signature where there is no docstring.
    return "" if text.startswith(f"{schema.__name__}(") else text.partition(". ")[0].rstrip(".")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
