"""An exported version."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.export.stablehlo import promised_until
from distill.export.verify import Checked
from distill.export.versions import DESCRIPTION, table
from distill.inspect.kind import Kind, blame
from distill.inspect.lineage import lineage_facts, model_facts
from distill.inspect.tables import facts, file_table, signature_table, tensor_table
from distill.json_files import read_json
from distill.runs.weights import described_tower
from distill.tensor_files import open_file


def _is_export(path: Path) -> bool:
    return (path / DESCRIPTION).is_file()


def _tell(path: Path) -> tuple[str, ...]:
    described = read_json(path / DESCRIPTION)
    with blame(path / DESCRIPTION, "an export"):
        about, signature = described["about"], described["signature"]
        holds = {
            "format": described["format"],
            "dtype": described["dtype"],
            "written": _written(described),
            **described.get("requires", {}),
            "run": about.get("workdir"),
            "step": about.get("step"),
            "licence": about.get("licence"),
            "checked on": about.get("checked_on"),
            "jax": described["jax"],
        }
        told = (
            facts(holds),
            model_facts(described_tower(about["model"])) if about.get("model") else "",
            lineage_facts(about),
            "" if signature is None else signature_table(signature),
            table([Checked(**one) for one in described["checked"]]),
        )
    files = sorted(file for file in path.rglob("*") if file.is_file())
    weights = [tensor_table(open_file(file).tensors) for file in path.glob("*.safetensors")]
    return *told, *weights, file_table(path, files)


def _written(described: Mapping[str, Any]) -> str | None:
    """The day on which an export was written, if it was recorded, and how long that is good for."""
    written = described.get("written")
    if written is None or described["format"] != "stablehlo":
        return written
    until = promised_until(datetime.date.fromisoformat(written))
    past = ", which is past" if datetime.datetime.now(datetime.UTC).date() > until else ""
    return f"{written}; JAX promises to read it until {until} at most{past}"


def _row(path: Path) -> tuple[str, ...]:
    """Format and step of an export."""
    described = read_json(path / DESCRIPTION)
    with blame(path / DESCRIPTION, "an export"):
        return str(described["format"]), str(described["about"].get("step"))


KIND = Kind("an export", _is_export, _tell, "exports", ("export", "format", "step"), _row)
