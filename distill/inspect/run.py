"""The workdir of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.data.sources import abbreviate
from distill.data.store import DESCRIPTION as STORE
from distill.inspect.checkpoint import arrays, kept_for, steps_in
from distill.inspect.kind import Kind, blame
from distill.inspect.lineage import model_and_lineage
from distill.inspect.tables import facts, tensor_table
from distill.json_files import read_json
from distill.runs.heads import is_head
from distill.train import best as best_weights
from distill.train.progress import format_figure
from distill.train.workdir import is_run, read_classes, read_config

# Of a run, the first of these that it has says how good it is.
_MAIN_METRICS = ("test/accuracy", "val/accuracy")


def _is_workdir(path: Path) -> bool:
    # Stored targets have the config of the run they are for.
    return is_run(path) and not (path / STORE).is_file()


def _tell(path: Path) -> tuple[str, ...]:
    recorded, figures = read_config(path), _figures(path)
    checkpoints = steps_in(path / "checkpoints")
    with blame(path / "config.json", "a run"):
        data = f"{recorded['data']['source']}, split {recorded['data']['train_split']}"
    about = {
        "pipeline": _pipeline(recorded),
        "state": "complete" if figures else "not complete",
        "steps": figures.get("steps"),
        "checkpoints": ", ".join(map(str, checkpoints)) or "none",
        "best": ", ".join(_best(path, step) for step in steps_in(path / best_weights.FOLDER)),
        "data": data,
        "classes": abbreviate(read_classes(path)),
    }
    newest = path / "checkpoints" / str(max(checkpoints, default=None))
    return (
        facts(about),
        *model_and_lineage(path),
        facts({name: value for name, value in figures.items() if "/" in name}),
        tensor_table(arrays(newest / "params")) if checkpoints else "",
    )


def _best(workdir: Path, step: int) -> str:
    told = kept_for(workdir, step)
    return f"step {step}{told and f', {told}'}"


def _row(path: Path) -> tuple[str, ...]:
    """Pipeline, step, state and main metric of a run."""
    pipeline, figures = _pipeline(read_config(path)), _figures(path)
    step = figures.get("steps") or f"{max(steps_in(path / 'checkpoints'), default=0):,}"
    metrics = [name for name in (*_MAIN_METRICS, *figures) if name in figures and "/" in name]
    metric = f"{metrics[0]} {figures[metrics[0]]}" if metrics else ""
    return pipeline, step, "complete" if figures else "not complete", metric


def _pipeline(recorded: Mapping[str, Any]) -> str:
    """The command that a run is of."""
    if is_head(recorded):
        return "train_head"
    if "matching" in recorded:
        return "distill_student"
    if recorded.get("model", {}).get("family") == "pair":
        return "train_pair"
    return "finetune" if recorded.get("start") else "pretrain"


def _figures(workdir: Path) -> dict[str, str]:
    """The final figures of a run, as people read them; none while it is not complete."""
    file = workdir / "summary.json"
    if not file.exists():
        return {}
    with blame(file, "a run's figures"):
        return {name: format_figure(name, value) for name, value in read_json(file).items()}


KIND = Kind(
    "a run", _is_workdir, _tell, "runs", ("run", "pipeline", "step", "state", "metric"), _row
)
