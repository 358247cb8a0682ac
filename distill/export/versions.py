"""Exports as they lie on disk: a directory of numbered versions for each format.

A version is written under a temporary name, run in the format's own runtime by a process that knows
nothing of this project, compared with JAX, and renamed when it agrees: a version that is there is a
good one. With it lie `export.json`, which says what it is, and MODEL_CARD.md, which says it to a
person.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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

FORMATS: Mapping[str, Callable[[Exportable, Path], list[Artefact]]] = {
    "saved_model": saved_model.write,
    "stablehlo": stablehlo.write,
    "tflite": tflite.write,
    "onnx": onnx.write,
    "hf": hf.write,
    "timm": timm.write,
}

# Of these, inputs and outputs are what their libraries' models have.
_OWN_SIGNATURE = ("hf", "timm")


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
    about = dict(about or {})
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".exporting-", dir=directory))
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror}") from error
    try:
        written = staging / "model"
        checked = [verifier(artefact) for artefact in FORMATS[form](model, written)]
        description = {
            "format": form,
            "dtype": model.dtype,
            "signature": None if form in _OWN_SIGNATURE else signature(model),
            "checked": [dataclasses.asdict(one) for one in checked],
            "jax": jax.__version__,
            "about": about,
        }
        write_json(written / DESCRIPTION, description)
        (written / CARD).write_text(model_card(model, description))
        version = directory / str(_next_version(directory))
        written.rename(version)
    finally:
        shutil.rmtree(staging)
        if not any(directory.iterdir()):
            directory.rmdir()
    return Version(version, checked)


def table(checked: Sequence[Checked]) -> str:
    """What was seen of each artefact, for a terminal."""
    header = ("format", "MB", "worst logit difference", "agrees", "accuracy", "batch 1", "batch 32")
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


def _next_version(directory: Path) -> int:
    versions = [int(p.name) for p in directory.iterdir() if p.is_dir() and p.name.isdigit()]
    return max(versions, default=0) + 1
