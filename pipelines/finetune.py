"""Fine-tunes a trained model: on other classes, at a higher resolution, or both.

  python pipelines/finetune.py --config=configs/finetune/digits.py --workdir=runs/finetuned \
      --config.start.workdir=runs/teacher

The model is the one that was trained, but for what config.model says: an image size, to whose grid
of patches the position embedding is interpolated, a number of classes. The recipe is that of
"Scaling Vision Transformers" (arXiv 2106.04560). Running the same command again resumes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.command.launch import launch_training
from distill.config import ConfigError, resolve, stated
from distill.data.classes import name_classes
from distill.nn.family import ModelConfig
from distill.paths import local_path
from distill.references import evaluated
from distill.report.story import finish, introduce
from distill.runs.classifiers import classifier
from distill.runs.models import recorded_view, with_classes
from distill.runs.start import StartConfig, kept_classes, starting_params
from distill.tasks.classification import ClassificationConfig
from distill.train.fit import Trained, fit_one
from distill.train.run import RunConfig, open_mesh
from distill.train.train_log import train_log
from distill.train.workdir import Workdir, read_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """Everything a fine-tuning run depends on."""

    start: StartConfig
    model: ModelConfig
    """What is not said here is as in the run to start from."""
    loss: ClassificationConfig = ClassificationConfig(kind="softmax")


def complete(tree: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Fills in what the config leaves to the run it starts from."""
    start = evaluated(tree.get("start", {}), [])
    start |= {key.removeprefix("start."): text for key, text in overrides.items()}
    workdir = start.get("workdir")
    if not workdir:
        raise ConfigError(["config.start.workdir is missing; expected a trained model's workdir"])
    path = Path(local_path(str(workdir), "config.start.workdir"))
    # A kernel belongs to a machine, an initial bias to a loss, and classes to a classifier.
    other = {"attention": "auto", "classifier_bias": 0.0}
    if start.get("classifier") != "keep":
        other["num_classes"] = None
    model = stated(resolve(ModelConfig, read_config(path)["model"]))
    return tree | {"model": model | other | tree.get("model", {})}


def run(
    config: FinetuneConfig, workdir: Workdir, name: str = "finetune", *, overview: bool = True
) -> Trained:
    """Fine-tunes a classifier and writes its workdir."""
    with train_log(workdir):
        return _run(config, workdir, name, overview)


def _run(config: FinetuneConfig, workdir: Workdir, name: str, overview: bool) -> Trained:
    config = config.completed(recorded_view(Path(config.start.workdir)))
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=config.model.channels)
    splits.check_all_labelled("fine-tuning")
    config = with_classes(config, len(splits.class_names))
    network = config.model.network().placed(mesh, config.mesh.table)
    count = network.config.num_classes
    kept = kept_classes(config.start, count)
    names = name_classes("config.model", count, kept, splits.class_names)
    splits = splits.numbered(names, "the model to start from", in_order=config.data.in_order)
    introduce(name, network, splits, mesh, overview)
    initial = starting_params(config.start, network, config)
    trainee = classifier(config, config.loss, workdir, network, splits, names, initial)
    trained = fit_one(name, trainee, mesh=mesh, splits=splits, view_size=config.model.image_size)
    return finish(name, trained, workdir)


if __name__ == "__main__":
    launch_training(__doc__, FinetuneConfig, run, complete=complete)
