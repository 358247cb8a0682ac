"""What `distill inspect` says of a run, a checkpoint, stored targets, an export."""

import datetime
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from distill.config import ConfigError, resolve
from distill.data.sources import abbreviate
from distill.data.store import DESCRIPTION as STORE
from distill.errors import UserError
from distill.export.stablehlo import promised_until
from distill.export.verify import Checked, size_of
from distill.export.versions import DESCRIPTION as EXPORT
from distill.export.versions import table
from distill.json_files import read_json
from distill.moved import read_recorded
from distill.nn.family import ModelConfig
from distill.report.contents import (
    facts,
    file_table,
    shape_text,
    signature_table,
    tensor_table,
)
from distill.report.text import text_table
from distill.runs.teachers import recorded_teachers
from distill.tensor_files import Tensor, open_file
from distill.train import best as best_weights
from distill.train.progress import format_figure
from distill.train.workdir import read_classes, read_config, read_teachers

_CHECKPOINT = "_CHECKPOINT_METADATA"
_ITEMS = ("params", "trained", "projections", "optimizer")
# Of a run, the first of these that it has says how good it is.
_MAIN_METRICS = ("test/accuracy", "val/accuracy")


def kind_of(path: Path) -> str | None:
    """What a directory is, by the files that tell of it; a key of `TELL`."""
    if (path / STORE).is_file():
        return "stored targets"
    if (path / EXPORT).is_file():
        return "an export"
    if (path / _CHECKPOINT).is_file() or (path / "params").is_dir():
        return "a checkpoint"
    return "a run" if _is_run(path) else None


def _is_run(path: Path) -> bool:
    """Whether a directory has the config of a run; published models have another config.json."""
    file = path / "config.json"
    if not file.is_file():
        return False
    try:
        config = read_json(file)
    except UserError:
        # Whoever reads it says what is wrong.
        return True
    return isinstance(config, dict) and {"data", "train"} <= config.keys()


def _workdir(path: Path) -> tuple[str, ...]:
    recorded, figures = read_config(path), _figures(path)
    checkpoints = steps_in(path / "checkpoints")
    with _blame(path / "config.json", "a run"):
        data = f"{recorded['data']['source']}, split {recorded['data']['train_split']}"
    about = {
        "pipeline": _pipeline(recorded),
        "state": "complete" if figures else "not complete",
        "steps": figures.get("steps"),
        "checkpoints": ", ".join(map(str, checkpoints)) or "none",
        "best": ", ".join(f"step {step}" for step in steps_in(path / best_weights.FOLDER)),
        "data": data,
        "classes": abbreviate(read_classes(path)),
    }
    newest = path / "checkpoints" / str(max(checkpoints, default=None))
    return (
        facts(about),
        *_model_and_lineage(path),
        facts({name: value for name, value in figures.items() if "/" in name}),
        tensor_table(_arrays(newest / "params")) if checkpoints else "",
    )


def run_row(path: Path) -> tuple[str, ...]:
    """Pipeline, step, state and main metric of a run."""
    pipeline, figures = _pipeline(read_config(path)), _figures(path)
    step = figures.get("steps") or f"{max(steps_in(path / 'checkpoints'), default=0):,}"
    metrics = [name for name in (*_MAIN_METRICS, *figures) if name in figures and "/" in name]
    metric = f"{metrics[0]} {figures[metrics[0]]}" if metrics else ""
    return pipeline, step, "complete" if figures else "not complete", metric


def _pipeline(recorded: Mapping[str, Any]) -> str:
    """The command that a run is of."""
    if "matching" in recorded:
        return "distill_student"
    return "finetune" if recorded.get("start") else "pretrain"


def _figures(workdir: Path) -> dict[str, str]:
    """The final figures of a run, as people read them; none while it is not complete."""
    file = workdir / "summary.json"
    if not file.exists():
        return {}
    with _blame(file, "a run's figures"):
        return {name: format_figure(name, value) for name, value in read_json(file).items()}


def _model_and_lineage(workdir: Path) -> tuple[str, str]:
    """Of a run."""
    recorded = read_config(workdir)
    with _blame(workdir / "config.json", "a run"):
        about = recorded | {"teachers": _teachers(workdir, recorded)}
        return _model(recorded.get("model")), _lineage(about)


def _teachers(workdir: Path, recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A run's teachers with their fingerprints, or before it has recorded them, its config's."""
    with _blame(workdir / "teachers.json", "teachers"):
        found = read_teachers(workdir)
        if found or (workdir / "teachers.json").exists():
            return {
                name: {"source": one["source"], "fingerprint": one.get("fingerprint")}
                for name, one in found.items()
            }
    return {name: {"source": one.source} for name, one in recorded_teachers(recorded).items()}


def _checkpoint(path: Path) -> tuple[str, ...]:
    about = {"step": path.name if path.name.isdigit() else None, "items": _items(path)}
    model_and_lineage = ()
    # Of its run, two directories up.
    workdir = path.resolve().parent.parent
    if _is_run(workdir):
        about["run"] = workdir
        model_and_lineage = _model_and_lineage(workdir)
    return facts(about), *model_and_lineage, tensor_table(_arrays(path / "params"))


def checkpoint_table(path: Path, steps: list[int]) -> str:
    """A line for each checkpoint of a directory."""
    folders = [path / str(step) for step in steps]
    rows = [(one.name, _items(one), f"{size_of(one) / 1e6:.2f}") for one in folders]
    return text_table(("step", "items", "MB"), rows)


def _items(checkpoint: Path) -> str:
    return ", ".join(item for item in _ITEMS if (checkpoint / item).is_dir())


def _store(path: Path) -> tuple[str, ...]:
    described = read_recorded(path / STORE)
    with _blame(path / STORE, "a store"):
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
        return facts(holds), _lineage(about), table


def store_row(path: Path) -> tuple[str, ...]:
    """The number of examples of stored targets."""
    described = read_json(path / STORE)
    with _blame(path / STORE, "a store"):
        return (f"{described['examples']:,}",)


def _export(path: Path) -> tuple[str, ...]:
    described = read_json(path / EXPORT)
    with _blame(path / EXPORT, "an export"):
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
            _model(about.get("model")),
            _lineage(about),
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


def export_row(path: Path) -> tuple[str, ...]:
    """Format and step of an export."""
    described = read_json(path / EXPORT)
    with _blame(path / EXPORT, "an export"):
        return str(described["format"]), str(described["about"].get("step"))


def _model(recorded: Mapping[str, Any] | None) -> str:
    if not recorded:
        return ""
    config = resolve(ModelConfig, dict(recorded))
    count = f"{config.network().parameter_count():,}"
    named = {"model": f"{config.family} {config.variant}", "parameters": count}
    return facts(named | config.facts)


def _lineage(about: Mapping[str, Any]) -> str:
    lines = {
        "teacher" if name == "teacher" else f"teacher {name}": f"{teacher['source']}, fingerprint "
        f"{teacher.get('fingerprint') or 'not recorded'}"
        for name, teacher in (about.get("teachers") or {}).items()
    }
    lines |= {
        "targets": about.get("targets"),
        "started from": (about.get("start") or {}).get("workdir"),
        "branched from": about.get("branch_from") or about.get("branched_from"),
    }
    return facts(lines)


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a directory, ascending."""
    if not folder.is_dir():
        return []
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return [step for step in steps if kind_of(folder / str(step)) == "a checkpoint"]


def _arrays(folder: Path) -> dict[str, Tensor]:
    """The arrays that Orbax has written under a directory."""
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(folder.resolve()).item_metadata
        leaves = jax.tree.leaves_with_path(dict(tree), is_leaf=lambda leaf: hasattr(leaf, "shape"))
        return {
            jax.tree_util.keystr(keys, simple=True, separator="/"): Tensor(
                str(leaf.dtype), tuple(leaf.shape)
            )
            for keys, leaf in leaves
        }
    # Of a tree that is not there, or whose leaves are no arrays, what Python says.
    except (AttributeError, FileNotFoundError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{folder} holds no parameters, or is damaged: {error}") from error


@contextmanager
def _blame(file: Path, what: str) -> Iterator[None]:
    """Reports what a file says amiss as the user's to mend."""
    try:
        yield
    except ConfigError as error:
        raise UserError(f"{file} is not the description of {what}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not the description of {what}: {error!r}") from error


TELL: Mapping[str, Callable[[Path], tuple[str, ...]]] = {
    "stored targets": _store,
    "an export": _export,
    "a checkpoint": _checkpoint,
    "a run": _workdir,
}
"""What is said of each kind of directory: parts, to be shown one below the other."""
