"""Which columns of a table hold images and labels, and what the classes are called."""

import dataclasses
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from distill.data.sources.base import abbreviate, fingerprint_of, printable
from distill.data.sources.class_lists import checked_names
from distill.data.sources.options import path_and_options
from distill.data.sources.places import read_if_there
from distill.errors import UserError, did_you_mean
from distill.json_files import parse_json

# Of several columns that could be meant, the first that is called so; the finer label goes first.
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target", "category")
_OPTIONS = {"image": "COLUMN", "label": "COLUMN"}
# In place of a column's name.
_NONE = "none"

Features = Mapping[str, Any]
"""What Hugging Face says of columns, by name."""


def arrow() -> Any:
    """Apache Arrow.

    Raises:
      UserError: if it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "parquet:PATH and hf:PATH are read with pyarrow, which is not installed: "
            "pip install -e '.[arrow]'"
        ) from error
    return pyarrow


@dataclasses.dataclass(frozen=True)
class Choice:
    """Columns that a user names, as in `parquet:PATH?image=photo&label=species`.

    `label=none` names no column: images have no labels, whatever else the table holds.
    """

    image: str | None = None
    label: str | None = None

    @classmethod
    def parse(cls, argument: str) -> tuple[str, "Choice"]:
        """The path, and the columns named after it.

        Raises:
          UserError: if one is named twice, or what is named is neither, or nothing.
        """
        path, options = path_and_options(argument, _OPTIONS)
        return path, cls(**options)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where in a table images and labels are."""

    image: str
    nested: bool
    """Whether the column holds bytes and path, as Hugging Face has images, or bytes alone."""
    has_path: bool
    label: str | None
    """None where there is none."""
    class_names: tuple[str, ...]
    """What the table calls its classes; empty where their names are the labels themselves."""
    is_text: bool | None
    """Whether labels are text, or whole numbers; None where there are none or all are null."""
    label_type: str
    """Of the column, as Arrow calls it."""
    choice: Choice
    """What the user named."""
    file: str
    """Where they were found, for errors."""

    @property
    def encoded(self) -> str:
        """The column of the images' bytes, by its path in the table."""
        return f"{self.image}.bytes" if self.nested else self.image

    @property
    def digest(self) -> str:
        """Which tells an index of these columns from one of others."""
        alike = dataclasses.replace(self, label_type="", choice=Choice(), file="")
        return fingerprint_of(dataclasses.astuple(alike))[:8]


def find_columns(schema: Any, features: Features, choice: Choice, where: str) -> Columns:
    """Finds images and labels in a table.

    Args:
      schema: of the table, Arrow's.
      features: what else is known of its columns; may be empty.
      choice: what the user says.
      where: the table is, for errors.

    Raises:
      UserError: if there is no column of images, several could be meant, one that was named is
        not there or of another type, or one that is called as labels are cannot be them.
    """
    try:
        fields = {field.name: field.type for field in schema}
        parts = {
            name: {part.name for part in kind} if _types().is_struct(kind) else set()
            for name, kind in fields.items()
        }
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is damaged: a column's name is no text ({error}). Copy it again"
        ) from error
    images = [name for name, kind in fields.items() if _holds_images(kind)]
    image = _chosen(choice.image, "image", images, fields, _IMAGES, where)
    if image is None:
        raise UserError(
            f"{where} has no column of images: expected one of bytes, or of bytes and path "
            f"(struct<bytes: binary, path: string>); it has {_listed(fields)}"
        )
    labels = [name for name, kind in fields.items() if name != image and _holds_labels(kind)]
    known = [name for name in labels if features.get(name, {}).get("_type") == "ClassLabel"]
    named = [name for name in labels if name in _LABELS]
    label = None
    if choice.label != _NONE or _NONE in fields:
        label = _chosen(choice.label, "label", labels, fields, _LABELS, where, known or named)
        if label is None:
            _refuse_other_labels(fields, image, where)
    nested = _types().is_struct(fields[image])
    names = features.get(label, {}).get("names") if label else None
    kind = fields.get(label) if label else None
    return Columns(
        image=image,
        nested=nested,
        has_path="path" in parts[image],
        label=label,
        class_names=checked_names(names or (), where),
        is_text=None if kind is None or _types().is_null(kind) else not _holds_numbers(kind),
        label_type=str(kind),
        choice=choice,
        file=where,
    )


def _refuse_other_labels(fields: Mapping[str, Any], image: str, where: str) -> None:
    """Checks that no column is called as labels are, of a table in which none can be them."""
    for name in (name for name in _LABELS if name in fields and name != image):
        # Images may be called so too, such as masks.
        if _types().is_struct(fields[name]) and _holds_images(fields[name]):
            continue
        raise UserError(
            f"column {name!r} of {where} is {fields[name]}, and labels are of an integer type or "
            "string. Write it as such (pyarrow.compute.cast(column, 'int64'), or 'string'), name "
            "another column after the path, ?label=NAME, or read images without labels, ?label=none"
        )


def check_columns(schema: Any, columns: Columns, where: str) -> None:
    """Checks that a file has the columns of the first.

    Raises:
      UserError: if it has others, or classes of other names.
    """
    chosen = Choice(columns.image, columns.label or columns.choice.label)
    own = find_columns(schema, features_of(schema, []), chosen, where)
    if (own.nested, own.has_path) != (columns.nested, columns.has_path):
        raise UserError(
            f"column {columns.image!r} of {where} is of another type than that of {columns.file}"
        )
    if own.label != columns.label:
        raise UserError(
            f"{where} has labels in {own.label!r}, but {columns.file} in {columns.label!r}; name "
            "the column after the path: ?label=NAME"
        )
    if None not in (own.is_text, columns.is_text) and own.is_text != columns.is_text:
        raise UserError(
            f"column {own.label!r} of {where} is {own.label_type}, but that of {columns.file} is "
            f"{columns.label_type}; write whole numbers in all files, or text"
        )
    if own.class_names and own.class_names != columns.class_names:
        raise UserError(f"{where} has other classes than {columns.file}")


def _types() -> Any:
    return arrow().types


def _holds_bytes(kind: Any) -> bool:
    types = _types()
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _holds_images(kind: Any) -> bool:
    if not _types().is_struct(kind):
        return _holds_bytes(kind)
    return any(part.name == "bytes" and _holds_bytes(part.type) for part in kind)


def _holds_labels(kind: Any) -> bool:
    types = _types()
    value = kind.value_type if types.is_dictionary(kind) else kind
    # Of which every row is null, such as a file's without labels.
    return (
        types.is_null(value)
        or types.is_string(value)
        or types.is_large_string(value)
        or _holds_numbers(kind)
    )


def _holds_numbers(kind: Any) -> bool:
    types = _types()
    return types.is_integer(kind.value_type if types.is_dictionary(kind) else kind)


def _chosen(
    asked: str | None,
    what: str,
    fit: list[str],
    fields: Mapping[str, Any],
    usual: tuple[str, ...],
    where: str,
    likely: list[str] | None = None,
) -> str | None:
    """The column that was asked for, the only likely one, or the first that is called as usual."""
    if asked is not None:
        if asked not in fields:
            near = did_you_mean(asked, fields)
            raise UserError(f"{where} has no column {asked!r}{near}; it has {_listed(fields)}")
        if asked not in fit:
            raise UserError(
                f"column {asked!r} of {where} is {fields[asked]}, which is no {what}; expected "
                + ("bytes" if what == "image" else "whole numbers or text")
            )
        return asked
    likely = fit if likely is None else likely
    called = [name for name in usual if name in likely]
    if len(likely) <= 1 or called:
        return (called or likely or [None])[0]
    raise UserError(
        f"{where} has several columns that could be the {what}: {abbreviate(tuple(likely))}. Name "
        f"one after the path: ?{what}={likely[0]}"
    )


def _listed(fields: Mapping[str, Any]) -> str:
    return (
        abbreviate(tuple(f"{printable(name)} ({kind})" for name, kind in fields.items())) or "none"
    )


def features_of(schema: Any, folders: Sequence[str]) -> Features:
    """What Hugging Face says of a table's columns: in its schema, or in a file beside it.

    Args:
      schema: Arrow's.
      folders: where `dataset_info.json` or `README.md` may lie, the nearest first.

    Raises:
      UserError: if a file is damaged.
    """
    metadata = schema.metadata or {}
    try:
        info = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
        found = info.get("features") or {}
    except (ValueError, AttributeError):
        found = {}
    if found:
        return found
    for folder in folders:
        for name, read in (("dataset_info.json", parse_json), ("README.md", _front_matter)):
            file = os.path.join(folder, name)
            if (encoded := read_if_there(file)) is not None:
                content = read(encoded, file)
                found = _features(content if isinstance(content, dict) else {})
                if found:
                    return found
    return {}


def _features(content: dict[str, Any]) -> Features:
    """As one dictionary, from those of dataset_info.json and of a card's head."""
    info = content.get("dataset_info", content)
    if isinstance(info, list):
        info = info[0] if len(info) == 1 else {}
    found = info.get("features") if isinstance(info, dict) else None
    if isinstance(found, dict):
        return found
    return dict(map(_of_card, found or []))


def _of_card(feature: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = feature.get("dtype")
    label = kind.get("class_label") if isinstance(kind, dict) else None
    if label is None:
        return str(feature.get("name")), {}
    names = label.get("names", {})
    # Numbers in quotes, in order.
    names = list(names.values()) if isinstance(names, dict) else names
    return str(feature.get("name")), {"_type": "ClassLabel", "names": names}


def _front_matter(content: bytes, file: str) -> Any:
    """What stands at the head of a data set's card between lines of dashes."""
    import yaml

    text = io.StringIO(content.decode("utf-8", "replace"), newline=None).read()
    parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.M)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        return yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise UserError(f"the head of {file} is damaged: {error}") from error
