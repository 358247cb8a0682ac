"""Exports as they lie on disk: a directory of numbered versions for each format.

A version is written under a temporary name, run in the format's own runtime by a process that knows
nothing of this project, compared with JAX, and renamed when it agrees: a version that is there is a
good one. With it lie `export.json`, which says what it is, and MODEL_CARD.md, which says it to a
person.
"""

import dataclasses
import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from distill.errors import UserError
from distill.export import hf, onnx, saved_model, stablehlo, tflite, timm
from distill.export.card import model_card
from distill.export.model import Artefact, Exportable, signature
from distill.export.verify import Checked, Verifier
from distill.json_files import write_json
from distill.report.text import text_table

DESCRIPTION = "export.json"
CARD = "MODEL_CARD.md"


class Format(NamedTuple):
    """How a model becomes files."""

    check: Callable[[Exportable], None]
    """Raises a UserError for a model that the format does not take, or if a package is missing."""
    write: Callable[[Exportable, Path], list[Artefact]]
    """Writes to a new directory."""


FORMATS: Mapping[str, Format] = {
    "saved_model": Format(saved_model.check, saved_model.write),
    "stablehlo": Format(stablehlo.check, stablehlo.write),
    "tflite": Format(tflite.check, tflite.write),
    "onnx": Format(onnx.check, onnx.write),
    "hf": Format(hf.check, hf.write),
    "timm": Format(timm.check, timm.write),
}

# Of these, inputs and outputs are what their libraries' models have.
_OWN_SIGNATURE = ("hf", "timm")

_STAGING = ".exporting-"
# No export takes as long: what is older was left by a process that was killed.
_STALE_SECONDS = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Version:
    """An export that was checked."""

    path: Path
    checked: list[Checked]


def export_version(
    model: Exportable,
    form: str,
    directory: Path,
    verifier: Verifier,
    about: Mapping[str, Any] | None = None,
) -> Version:
    """Writes the next version under `directory`, having checked it.

    Args:
      model: what to export.
      form: one of `FORMATS`.
      directory: of all versions; created if missing.
      verifier: of the model.
      about: where it comes from, as JSON can hold it; see `distill.export.card`.

    Raises:
      UserError: if the directory cannot be written, or the format does not take the model or needs
        what is not installed.
      ExportMismatch: if it differs from JAX by more than it may; then nothing is left.
    """
    FORMATS[form].check(model)
    created = []
    try:
        created = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        _remove_stale(directory)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=directory) as staging:
            written = Path(staging) / "model"
            checked = [verifier(artefact) for artefact in FORMATS[form].write(model, written)]
            description = {
                "format": form,
                "dtype": model.dtype,
                "signature": None if form in _OWN_SIGNATURE else signature(model),
                "preprocessing": model.preprocessing,
                "checked": [dataclasses.asdict(one) for one in checked],
                "jax": jax.__version__,
                "about": dict(about or {}),
            }
            write_json(written / DESCRIPTION, description)
            # A path on it may have been read in a locale that could not decode it.
            (written / CARD).write_text(
                model_card(model, description), encoding="utf-8", errors="surrogateescape"
            )
            return Version(_number(written, directory), checked)
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from error
    finally:
        for path in created:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()


def _remove_stale(directory: Path) -> None:
    for left in directory.glob(f"{_STAGING}*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left)


def _number(written: Path, directory: Path) -> Path:
    """Gives a version that was checked its number, the next that nobody else takes."""
    while True:
        numbers = [int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdigit()]
        version = directory / str(max(numbers, default=0) + 1)
        try:
            return written.rename(version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def table(checked: Sequence[Checked]) -> str:
    """What was seen of each artefact, for a terminal."""
    header = ("format", "MB", "worst difference", "agrees", "accuracy", "1 image", "32 images")
    return text_table(header, [row(one) for one in checked])


def row(one: Checked) -> tuple[str, ...]:
    """What was seen of an artefact, as text."""
    return (
        one.name,
        f"{one.bytes / 1e6:.2f}",
        f"{one.difference:.1e}",
        f"{one.agreement:.2%}",
        "—" if one.accuracy is None else f"{one.accuracy:.2%}",
        *(f"{one.milliseconds[size]:.1f} ms" for size in ("1", "32")),
    )
