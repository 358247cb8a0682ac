"""Predictions as files: NumPy's .npz, or Parquet.

Both hold `logits` or `probabilities`, a row for each image, and may hold `label`, a number of the
model's classes or −1, `name`, and whatever else is known of each image. Names of classes stand
beside them: in .npz an array `class_names` [C] and a text `about`, JSON; in Parquet the entries
`class_names` and `about` of the schema's metadata, both JSON. What another program wrote needs the
scores alone.
"""

import contextlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from distill.analysis.predictions import Predictions, Scale
from distill.errors import UserError
from distill.json_files import read_json, write_json
from distill.unwritten import naming, whole_or_not

SUFFIXES = (".npz", ".parquet")
"""Of files of predictions."""

_SCALES = get_args(Scale)
_OWN = (*_SCALES, "label", "name", "class_names", "about")
_PARTS = "parts.json"


def check_writable(path: Path) -> None:
    """Checks that there can be such a file, before anybody waits for it; makes its directory.

    Raises:
      UserError: if its name says no known format, or its directory cannot be made.
    """
    _check_format(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be made: {error.strerror}") from error


def refuse_other(path: Path, class_names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Checks that no file is replaced but by predictions of the same.

    Args:
      path: of a file, if there is one.
      class_names: of what is to be written.
      about: whose predictions of what are to be written.

    Raises:
      UserError: if it holds others, or anything else.
    """
    if not path.exists():
        return
    there = read_predictions(path)
    if there.class_names != tuple(class_names) or there.about != json.loads(json.dumps(about)):
        raise UserError(
            f"{path} holds predictions of another model, of other images or shown otherwise; give "
            "another --output, or remove it"
        )


def _check_format(path: Path) -> None:
    """Checks that a file's name says in which format it is.

    Raises:
      UserError: if it does not, or what the format needs is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path.name} must end in one of {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _parquet()


def read_predictions(path: Path) -> Predictions:
    """Reads a file of predictions.

    Raises:
      UserError: if it cannot be read or holds no predictions.
    """
    _check_format(path)
    try:
        arrays = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read as predictions: {error}") from error
    try:
        return _predictions(arrays)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes a file that a reader finds whole or not at all.

    Raises:
      UserError: if its name says no known format.
      OSError: naming the file, if it cannot be written; then it is as it was.
    """
    writer = PredictionsWriter(
        path,
        class_names=predictions.class_names,
        scale=predictions.scale,
        about=predictions.about,
    )
    rows = {predictions.scale: predictions.scores, "label": predictions.labels}
    try:
        writer.write({**rows, "name": predictions.names, **predictions.columns}, len(predictions))
        writer.finish()
    except BaseException:
        # Nobody goes on with them.
        writer.discard()
        raise


class PredictionsWriter:
    """Writes predictions part by part; after an interruption, parts that were finished stand.

    Args:
      path: the file; its parts lie in a directory beside it until it is finished.
      class_names: the model's, in the order of its scores.
      scale: of the scores.
      about: whose predictions of what they are; of an interrupted file, the same again.

    Raises:
      UserError: if parts of other predictions lie there, or the name says no known format.
    """

    def __init__(
        self,
        path: Path,
        *,
        class_names: Sequence[str],
        scale: Scale = "logits",
        about: Mapping[str, Any] | None = None,
    ):
        check_writable(path)
        self._path, self._parts = path, path.with_name(f".{path.name}.parts")
        self._header = {
            "scale": scale,
            "class_names": list(class_names),
            "about": json.loads(json.dumps(about or {})),
        }
        self._ends: list[int] = []
        description = self._parts / _PARTS
        if description.exists():
            there = read_json(description)
            if there["header"] != self._header:
                raise UserError(
                    f"{self._parts} holds parts of other predictions, interrupted before; give "
                    f"another --output, or remove it"
                )
            self._ends = there["ends"]

    @property
    def position(self) -> int:
        """The place in the source of the first image that is not yet written."""
        return self._ends[-1] if self._ends else 0

    def write(self, rows: Mapping[str, np.ndarray], end: int) -> None:
        """Adds a part.

        Args:
          rows: scores by the name of their scale, `label`, `name` and other columns, [n, …].
          end: the place in the source of the first image after these; of images that cannot be
            decoded there are no rows.
        """
        with naming(self._path):
            self._parts.mkdir(parents=True, exist_ok=True)
            with self._part(len(self._ends)).open("wb") as out:
                np.savez(out, allow_pickle=False, **rows)
            self._ends.append(end)
            # The part counts once it is listed.
            content = {"header": self._header, "ends": self._ends}
            write_json(self._parts / _PARTS, content, checked=True)

    def finish(self) -> None:
        """Joins the parts, one in memory at a time."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        join = _join_parquet if self._path.suffix == ".parquet" else _join_npz
        parts = [self._part(number) for number in range(len(self._ends))]
        with whole_or_not(temporary, self._path):
            join(temporary, parts, self._header)
            temporary.replace(self._path)
        shutil.rmtree(self._parts)

    def discard(self) -> None:
        """Removes the parts."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, number: int) -> Path:
        return self._parts / f"part-{number:05d}.npz"


@contextlib.contextmanager
def _loaded(file: Path) -> Iterator[Mapping[str, np.ndarray]]:
    with np.load(file, allow_pickle=False) as arrays:
        yield arrays


def _join_npz(path: Path, parts: Sequence[Path], header: Mapping[str, Any]) -> None:
    dtypes, shapes = _layout(parts)
    own = {
        "class_names": np.array(header["class_names"], dtype=str),
        "about": np.array(json.dumps(header["about"])),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, dtype in dtypes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                form = np.lib.format
                said = {"descr": form.dtype_to_descr(dtype), "fortran_order": False}
                form.write_array_header_2_0(out, said | {"shape": shapes[name]})
                for part in parts:
                    with _loaded(part) as arrays:
                        out.write(np.ascontiguousarray(arrays[name], dtype).tobytes())
        for name, array in own.items():
            with archive.open(f"{name}.npy", "w") as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def as_utf8(name: str) -> str:
    r"""The name of an image, with \xff for bytes that are no UTF-8: Parquet's texts have none."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _layout(parts: Sequence[Path]) -> tuple[dict[str, np.dtype], dict[str, tuple[int, ...]]]:
    """Of each array all parts together; texts are as wide as the widest."""
    dtypes: dict[str, np.dtype] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts:
        with _loaded(part) as arrays:
            for name in arrays:
                array = arrays[name]
                before = shapes.get(name, (0,))[0]
                dtypes[name] = np.promote_types(dtypes.get(name, array.dtype), array.dtype)
                shapes[name] = (before + array.shape[0], *array.shape[1:])
    return dtypes, shapes


def _join_parquet(path: Path, parts: Sequence[Path], header: Mapping[str, Any]) -> None:
    arrow, parquet = _parquet()
    metadata = {key: json.dumps(header[key]) for key in ("class_names", "about")}
    dtypes, _ = _layout(parts)
    writer = None
    for part in parts:
        with _loaded(part) as arrays:
            columns = {}
            for name, dtype in dtypes.items():
                array = np.ascontiguousarray(arrays[name], dtype)
                flat = array.reshape(-1)
                is_text = dtype.kind == "U"
                columns[name] = arrow.array(list(map(as_utf8, flat.tolist())) if is_text else flat)
                if name == header["scale"]:
                    columns[name] = arrow.FixedSizeListArray.from_arrays(
                        columns[name], array.shape[1]
                    )
        table = arrow.table(columns).replace_schema_metadata(metadata)
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        # NumPy takes anything else for a pickle, and says how to load one.
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz file, which is a zip of arrays")
    found = {}
    with _loaded(path) as arrays:
        for name in arrays:
            try:
                found[name] = arrays[name]
            except ValueError as error:
                raise ValueError(f"{name!r} is no array of plain numbers or texts") from error
    if "about" in found:
        found["about"] = json.loads(str(found["about"]))
    return found


def _read_parquet(path: Path) -> dict[str, Any]:
    arrow, parquet = _parquet()
    try:
        table = parquet.read_table(path)
    except arrow.ArrowInvalid as error:
        raise ValueError(str(error)) from error
    found: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in _SCALES:
            values = column.flatten().to_numpy(zero_copy_only=False)
            if len(column) and len(values) % len(column):
                raise ValueError(f"the lists of {name!r} differ in length")
            found[name] = values.reshape(len(column), -1)
        else:
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype == object:
                values = np.array(["" if one is None else str(one) for one in values], dtype=str)
            found[name] = values
    metadata = table.schema.metadata or {}
    for key in ("class_names", "about"):
        if key.encode() in metadata:
            found[key] = json.loads(metadata[key.encode()])
    return found


def _predictions(arrays: Mapping[str, Any]) -> Predictions:
    """What a file's arrays say.

    Raises:
      UserError: if they are no predictions.
    """
    scales = [scale for scale in _SCALES if scale in arrays]
    if len(scales) != 1:
        raise UserError(
            f"it holds {', '.join(map(repr, arrays)) or 'nothing'}; expected one of "
            f"{' and '.join(map(repr, _SCALES))}, [images, classes]"
        )
    scores = np.asarray(arrays[scales[0]])
    if scores.ndim != 2 or not np.issubdtype(scores.dtype, np.number):
        raise UserError(
            f"{scales[0]!r} is {scores.dtype} of the shape {scores.shape}; expected numbers "
            "[images, classes]"
        )
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32)
    count, classes = scores.shape
    label = np.asarray(arrays.get("label", np.full(count, -1)))
    if not np.issubdtype(label.dtype, np.integer):
        raise UserError(f"'label' is {label.dtype}; expected whole numbers, -1 for no class")
    return Predictions(
        scores=scores,
        scale=scales[0],
        class_names=tuple(map(str, arrays.get("class_names", range(classes)))),
        labels=label.astype(np.int64),
        names=np.asarray(arrays.get("name", np.arange(count))).astype(str),
        columns={
            name: np.asarray(column)
            for name, column in arrays.items()
            if name not in _OWN and np.ndim(column) == 1
        },
        about=arrays.get("about", {}),
    )


def _parquet() -> tuple[Any, Any]:
    """Arrow and its reader of Parquet.

    Raises:
      UserError: if they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow: pip install pyarrow; or give a name that ends in .npz"
        ) from error
    return pyarrow, pyarrow.parquet
