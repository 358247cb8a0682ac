"""Stored targets."""

from pathlib import Path

from distill.data.store import DESCRIPTION
from distill.inspect.kind import Kind, blame
from distill.inspect.lineage import lineage_facts
from distill.inspect.tables import facts, shape_text
from distill.json_files import read_json
from distill.moved import read_recorded
from distill.terminal import text_table


def _is_store(path: Path) -> bool:
    return (path / DESCRIPTION).is_file()


def _tell(path: Path) -> tuple[str, ...]:
    described = read_recorded(path / DESCRIPTION)
    with blame(path / DESCRIPTION, "a store"):
        about, views = described["about"], described["about"]["views"]
        holds = {
            "examples": f"{described['examples']:,}",
            "images a step": described["batch_size"],
            "files": f"{len(list(path.glob('targets-*')))} of "
            f"{-(-described['examples'] // described['examples_per_file'])}",
            "of": f"{views['data']['source']}, split {views['data']['train_split']}, seed "
            f"{views['seed']}",
            "jax": about["jax"],
        }
        rows = [
            (name, dtype, shape_text(shape)) for name, (dtype, shape) in described["arrays"].items()
        ]
        table = text_table(("per example", "dtype", "shape"), rows)
        return facts(holds), lineage_facts(about), table


def _row(path: Path) -> tuple[str, ...]:
    """The number of examples of stored targets."""
    described = read_json(path / DESCRIPTION)
    with blame(path / DESCRIPTION, "a store"):
        return (f"{described['examples']:,}",)


KIND = Kind("stored targets", _is_store, _tell, "stored targets", ("targets", "examples"), _row)
