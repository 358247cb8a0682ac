"""Exports as they lie on disk: a directory of numbered versions for each format.

What a version is to hold is written under a temporary name, run in the format's own runtime by a
process that knows nothing of this project, compared with JAX, and put in place when it agrees: a
version that is there is a good one. With it lie `export.json`, which says what it is, and
MODEL_CARD.md, which says it to a person.
"""

import contextlib
import dataclasses
import datetime
import errno
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from distill.begun import begun_directory
from distill.checksums import FILE as CHECKSUMS
from distill.checksums import checksums_of, damage_in, files_in
from distill.errors import Damaged, UserError, did_you_mean
from distill.export import hf, onnx, saved_model, stablehlo, tflite, timm
from distill.export.card import model_card
from distill.export.model import Artefact, Exportable, ExportFailed, Kind, signature
from distill.export.verify import Checked
from distill.json_files import write_json
from distill.nn import VisionNetwork
from distill.terminal import text_table
from distill.unwritten import CannotWrite, cannot_write

DESCRIPTION = "export.json"
CARD = "MODEL_CARD.md"


# Each takes the kinds of models that its format holds.
Write = Callable[[Any, Path], Artefact]


class Format(NamedTuple):
    """How a model becomes files."""

    check_installed: Callable[[], None]
    """Raises a UserError if a package is missing."""
    obstacle: Callable[[Any, str], str | None]
    """What keeps a network, exported in a dtype, out of the format; None if nothing does."""
    write: Sequence[Write]
    """For each artefact, what writes it to a new directory."""
    holds: Sequence[Kind] = ("image",)
    any_size: bool = True
    """Whether inputs may be of any size where the model takes them so."""


# Those that hold a function, whatever its inputs and outputs are.
_ANY: Sequence[Kind] = ("image", "text", "dense")

FORMATS: Mapping[str, Format] = {
    "saved_model": Format(
        saved_model.check_installed, saved_model.obstacle, (saved_model.write,), _ANY
    ),
    "stablehlo": Format(stablehlo.check_installed, stablehlo.obstacle, (stablehlo.write,), _ANY),
    "tflite": Format(
        tflite.check_installed,
        tflite.float32_obstacle,
        (tflite.write_float32, tflite.write_int8),
    ),
    "tflite_float32": Format(
        tflite.check_installed, tflite.float32_obstacle, (tflite.write_float32,)
    ),
    "tflite_int8": Format(tflite.check_installed, tflite.int8_obstacle, (tflite.write_int8,)),
    "onnx": Format(onnx.check_installed, onnx.obstacle, (onnx.write,), _ANY, any_size=False),
    "hf": Format(hf.check_installed, hf.obstacle, (hf.write,), ("image", "pair")),
    "timm": Format(timm.check_installed, timm.obstacle, (timm.write,)),
}

_KINDS: Mapping[Kind, str] = {
    "image": "models of images",
    "text": "text towers",
    "pair": "whole pairs",
    "dense": "heads",
}
_THIS: Mapping[Kind, str] = {
    "image": "a model of images",
    "text": "a text tower",
    "pair": "a pair of both towers",
    "dense": "a head on a model's tokens",
}

# Of these, inputs and outputs are what their libraries' models have.
_OWN_SIGNATURE = ("hf", "timm")

_AGAIN = "Nothing of the export is left. Run the same command again"
_STAGING = ".exporting-"
# Where locks tell nothing: no export takes as long.
_STALE_SECONDS = 24 * 3600


# What others call a format, or who reads it.
_ELSEWHERE = {
    "tf": "saved_model",
    "tensorflow": "saved_model",
    "pytorch": "timm",
    "torch": "timm",
    "pt": "timm",
    "pth": "timm",
    "safetensors": "hf",
    "huggingface": "hf",
    "transformers": "hf",
    "jax": "stablehlo",
    "mlir": "stablehlo",
    "lite": "tflite",
    "litert": "tflite",
}


def nearest_format(name: str) -> str:
    """The end of a message about an unknown format: the known one that is probably meant."""
    other = _ELSEWHERE.get(name.lower())
    return f"; did you mean {other!r}?" if other else did_you_mean(name.lower(), FORMATS)


@dataclasses.dataclass(frozen=True)
class Version:
    """An export that was checked."""

    path: Path
    checked: list[Checked]
    """What was seen of each artefact in it."""
    failed: Sequence[UserError] = ()
    """Why an artefact is not in it, for each that is not."""


def check_format(form: str, model: Exportable) -> None:
    """Checks that a model can be written in a format here.

    Raises:
      UserError: if the format does not take the model, or needs what is not installed.
    """
    obstacle = _obstacle(form, model)
    if obstacle:
        others = ", ".join(name for name in FORMATS if not _obstacle(name, model))
        raise UserError(
            f"the format {form} cannot hold this model: {obstacle}"
            + (f". Those that can, in {model.dtype}: {others}" if others else "")
        )
    FORMATS[form].check_installed()


def _obstacle(form: str, model: Exportable) -> str | None:
    if model.kind in FORMATS[form].holds:
        return FORMATS[form].obstacle(model.network, model.dtype)
    held = " and ".join(_KINDS[kind] for kind in FORMATS[form].holds)
    other = "" if model.kind == "dense" else " (--tower)"
    return f"it holds {held}, and this is {_THIS[model.kind]}{other}"


def obstacles(network: VisionNetwork, dtype: str = "float32") -> dict[str, str]:
    """What keeps a network out of formats, by format; of those that take it there is nothing.

    What is installed here does not count.

    Args:
      network: as it would be exported.
      dtype: of the exports.
    """
    found = {form: FORMATS[form].obstacle(network, dtype) for form in FORMATS}
    return {form: obstacle for form, obstacle in found.items() if obstacle}


def export_version(
    model: Exportable,
    form: str,
    directory: Path,
    verifier: Callable[[Artefact], Checked],
    about: Mapping[str, Any] | None = None,
) -> Version:
    """Writes the next version under `directory`, having checked it.

    An artefact that cannot be written, or is not the model, is left out, and the version says why.

    Args:
      model: what to export.
      form: one of `FORMATS`.
      directory: of all versions; created if missing.
      verifier: of the model.
      about: where it comes from, as JSON can hold it; see `distill.export.card`.

    Raises:
      UserError: if the directory cannot be written, or the format does not take the model or needs
        what is not installed.
      ExportFailed: if no artefact of the format can be written; then nothing is left.
      ExportMismatch: if one differs from JAX by more than it may, and there is no other.
    """
    check_format(form, model)
    model = model if FORMATS[form].any_size else model.at_one_size()
    created = []
    try:
        created = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        _remove_stale(directory)
        with begun_directory(directory, _STAGING) as staging:
            written = staging / "model"
            artefacts, checked, failed = _write_artefacts(model, form, written, verifier)
            _describe(model, form, written, artefacts, checked, about)
            _grant(written)
            return Version(_number(written, directory), checked, failed)
    except OSError as error:
        raise _not_writable(directory, error) from error
    finally:
        for path in created:
            if path.exists() and not any(path.iterdir()):
                path.rmdir()


def _write_artefacts(
    model: Exportable, form: str, written: Path, verifier: Callable[[Artefact], Checked]
) -> tuple[list[Artefact], list[Checked], list[UserError]]:
    """Collects in a new directory the artefacts of a format that are the model.

    Raises:
      UserError: if there are none.
    """
    written.mkdir()
    artefacts, checked, failed = [], [], []
    for number, write in enumerate(FORMATS[form].write):
        # What one that fails has left is in nobody's way.
        apart = written.with_name(str(number))
        try:
            with _explained(written):
                artefact = write(model, apart)
            checked.append(verifier(artefact))
            artefacts.append(artefact)
            for entry in apart.iterdir():
                entry.replace(written / entry.name)
        except CannotWrite:
            raise
        except UserError as error:
            failed.append(error)
        except ImportError as error:
            failed.append(ExportFailed(f"{form} needs what cannot be loaded here: {error}"))
        except OSError as error:
            failed.append(_not_writable(written.parent.parent, error))
    if not checked:
        if len(failed) == 1:
            raise failed[0]
        raise ExportFailed("\n".join(map(str, failed)))
    return artefacts, checked, failed


def _describe(
    model: Exportable,
    form: str,
    written: Path,
    artefacts: Sequence[Artefact],
    checked: Sequence[Checked],
    about: Mapping[str, Any] | None,
) -> None:
    """Writes export.json and the card."""
    description = {
        "format": form,
        "dtype": model.dtype,
        "written": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "requires": {name: what for one in artefacts for name, what in one.requires.items()},
        "signature": None if form in _OWN_SIGNATURE else signature(model),
        "preprocessing": model.preprocessing,
        "checked": [dataclasses.asdict(one) for one in checked],
        "jax": jax.__version__,
        "about": dict(about or {}),
    }
    write_json(written / DESCRIPTION, description)
    model.write_beside(written)
    # A path on it may have been read in a locale that could not decode it.
    (written / CARD).write_text(
        model_card(model, description), encoding="utf-8", errors="surrogateescape"
    )
    # But for what people write on.
    names = [name for name in files_in(written) if not name.endswith(".md")]
    sums = checksums_of(written, names)
    write_json(written / CHECKSUMS, {"files": sums}, checked=True)


def check_undamaged(version: Path) -> None:
    """Checks that the files of an export are what was written; earlier versions kept no checksums.

    Raises:
      Damaged: naming the first that is not.
    """
    if problems := damage_in(version):
        raise Damaged(
            f"the export in {version} is damaged: {problems[0]}\nExport it again, or put back a "
            f"copy; if that was changed on purpose, delete {version / CHECKSUMS}"
        )


def _grant(written: Path) -> None:
    """Gives all that lies in a directory the rights that its user's umask left the directory.

    Libraries that write through temporary files keep what they write to their user.
    """
    rights = written.stat().st_mode & 0o777
    for path in written.rglob("*"):
        path.chmod(rights if path.is_dir() else rights & 0o666)


def _not_writable(directory: Path, error: OSError) -> UserError:
    if found := cannot_write(error, _AGAIN, directory):
        return found
    return UserError(f"cannot write to {directory}: {error.strerror or error}")


@contextlib.contextmanager
def _explained(written: Path) -> Iterator[None]:
    """Tells from other failures of a format that files cannot be written.

    Libraries say so in their own errors, and every other artefact would fail as well.
    """
    try:
        yield
    except Exception as error:
        if found := cannot_write(error, _AGAIN, written.parent.parent):
            raise found from error
        raise


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
    header = ("format", "MB", "worst difference", "agrees", "accuracy", "batch of 1", "batch of 32")
    return text_table(header, [row(one) for one in checked])


def row(one: Checked) -> tuple[str, ...]:
    """What was seen of an artefact, as text."""
    return (
        one.name,
        f"{one.bytes / 1e6:.2f}",
        f"{one.difference:.1e}",
        f"{one.agreement:.2%}",
        "—" if one.accuracy is None else f"{one.accuracy:.2%}",
        *(
            f"{one.milliseconds[size]:.1f} ms" if size in one.milliseconds else "—"
            for size in ("1", "32")
        ),
    )
