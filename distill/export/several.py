"""Exports in several formats, whatever becomes of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import RunFailed, UserError
from distill.export.dense import DenseExportable
from distill.export.dense_verify import DenseSamples, DenseVerifier
from distill.export.model import Exportable
from distill.export.verify import Samples, Verifier
from distill.export.versions import Version, export_version, table


def export_all(
    model: Exportable,
    formats: Sequence[str],
    directory: Path,
    samples: Samples | DenseSamples,
    about: Mapping[str, Any],
) -> dict[str, Version]:
    """Exports in each format, whatever becomes of the others, and prints what was seen."""
    verifier = _verifier(model, samples)
    accuracy = verifier.accuracy
    versions, failed = {}, []
    try:
        for form in formats:
            # TF Serving looks for versions right in a model's directory.
            place = directory if form == "saved_model" else directory / form
            try:
                versions[form] = export_version(model, form, place, verifier, about)
            except UserError as error:
                failed.append(error)
            else:
                failed.extend(versions[form].failed)
                print(f"exported {versions[form].path}")
    finally:
        if versions:
            right = "" if accuracy is None else f" (accuracy {accuracy:.2%})"
            print(f"compared with JAX{right} on {samples.name}; times on this machine's CPU:\n")
            print(table([checked for one in versions.values() for checked in one.checked]))
    if failed:
        raise _incomplete(versions, failed)
    return versions


def _verifier(model: Exportable, samples: Samples | DenseSamples) -> Verifier | DenseVerifier:
    if isinstance(samples, DenseSamples):
        assert isinstance(model, DenseExportable)
        return DenseVerifier(model, samples)
    return Verifier(model, samples)


def _incomplete(versions: Mapping[str, Version], failed: Sequence[UserError]) -> UserError:
    """Says what was exported and what was not."""
    said = "\n".join(str(error) for error in failed)
    if not versions:
        ran = any(isinstance(error, RunFailed) for error in failed)
        return (RunFailed if ran else UserError)(f"{said}\nNothing was exported")
    written = [
        f"{checked.name} ({version.path})"
        for version in versions.values()
        for checked in version.checked
    ]
    return RunFailed(f"{said}\nThe rest was exported: {', '.join(written)}")
