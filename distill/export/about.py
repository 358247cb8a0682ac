"""Where a model comes from, as `export.json` and the card tell it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config import resolve
from distill.data import DataConfig
from distill.nn import Network
from distill.runs.models import without_execution
from distill.runs.teachers import teachers_of
from distill.runs.weights import WeightsConfig, describe_network, described_network
from distill.train import best as best_weights
from distill.train.progress import format_figure
from distill.train.workdir import read_summary

# Sections of a config that make up the recipe on a model card.
_RECIPE = ("head", "data.view", "optimizer", "schedule", "matching", "loss")


def describe(workdir: Path, recorded: Mapping[str, Any], best: bool) -> dict[str, Any]:
    """Where a trained model comes from, as its export's card tells it."""
    summary = read_summary(workdir) or {}
    folder = workdir / (best_weights.FOLDER if best else "checkpoints")
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    step = max(steps, default=None)
    weights, metrics = "last", {name: value for name, value in summary.items() if "/" in name}
    if best:
        metric, value = best_weights.kept_by(workdir, max(steps))
        weights, metrics = f"best by {metric}", {metric: value}
    data, train = resolve(DataConfig, recorded["data"]), recorded["train"]
    recipe = {
        key: value
        for section in _RECIPE
        for key, value in _flat(recorded, section)
        # Terms that a loss does not have.
        if value or not key.startswith("matching.losses.")
    }
    # What it is, and not how its run executed it: as fingerprints take it.
    model = without_execution(recorded["model"])
    return {
        "name": workdir.resolve().name,
        "workdir": str(workdir),
        "step": step,
        "weights": weights,
        "model": model,
        "data": {
            "trained on": f"{data.training_source}, split {data.train_split}"
            + (f", {data.train_images} of its images" if data.train_images else ""),
            "evaluated on": _evaluated_on(data),
            "classes": ", ".join(data.classes),
        },
        "recipe": {
            "steps": summary.get("steps"),
            "images a step": train["batch_size"],
            "seed": recorded["seed"],
            **recipe,
        },
        "metrics": {name: format_figure(name, value) for name, value in metrics.items()},
        "teachers": {
            name: _known(teacher) for name, teacher in teachers_of(workdir, recorded).items()
        },
        "targets": recorded.get("targets"),
        "start": recorded.get("start"),
        "branched_from": recorded.get("branch_from"),
    }


def describe_published(weights: WeightsConfig, network: Network) -> dict[str, Any]:
    """The same of published weights, of which nobody here knows how they were trained.

    Args:
      weights: where they are.
      network: what is exported of them.
    """
    path = Path(weights.path)
    return {
        "name": path.stem if path.is_file() else path.name,
        "published": weights.path,
        "model": describe_network(network),
    }


def _evaluated_on(data: DataConfig) -> str | None:
    named = {"val": data.validation_split, "test": data.test_split}
    splits = [f"split {split} ({prefix}/)" for prefix, split in named.items() if split]
    return ", ".join([data.evaluation_source, *splits]) if splits else None


def _known(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a teacher, and how large it is where its model is."""
    known = {key: value for key, value in teacher.items() if value is not None}
    if "model" in known:
        known["parameters"] = described_network(known["model"]).parameter_count()
    return known


def _flat(recorded: Mapping[str, Any], section: str) -> list[tuple[str, Any]]:
    """The keys of a section, such as `data.view`, with their values, as in config.section.key."""

    def walk(value, name):
        if isinstance(value, dict):
            for key, part in value.items():
                yield from walk(part, f"{name}.{key}")
        else:
            yield name, value

    found = recorded
    for key in section.split("."):
        found = found.get(key) or {}
    return list(walk(found, section))
