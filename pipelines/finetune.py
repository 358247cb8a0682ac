"""Fine-tunes a trained model: on other classes, at a higher resolution, or both.

  python pipelines/finetune.py --config=configs/finetune/digits.py --workdir=runs/finetuned \
      --config.start.workdir=runs/teacher

The model is the one that was trained, or with --config.start.weights.path=PATH a published one, but
for what config.model says: an image size, to whose grid of patches the position embedding is
interpolated, a number of classes. The recipe is that of "Scaling Vision Transformers" (arXiv
2106.04560). Running the same command again resumes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from distill.command.launch import launch_training
from distill.config import resolve, stated
from distill.data.classes import name_classes
from distill.nn.family import ModelConfig
from distill.report.story import finish, introduce
from distill.runs.classifiers import classifier
from distill.runs.models import with_classes
from distill.runs.start import StartConfig, kept_classes, starting_params
from distill.tasks.classification import ClassificationConfig
from distill.train.fit import fit_one
from distill.train.run import RunConfig, open_mesh
from distill.train.train_log import train_log
from distill.train.trainee import Trained
from distill.train.workdir import Workdir
from students import vit


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """Everything a fine-tuning run depends on."""

    start: StartConfig
    model: ModelConfig
    """What is not said here is as in the model to start from."""
    loss: ClassificationConfig = ClassificationConfig(kind="softmax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Started:
    """What of a `FinetuneConfig` says what its model is."""

    start: StartConfig


def complete(tree: dict[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Fills in what the config leaves to the model it starts from."""
    given = {key: text for key, text in overrides.items() if key.startswith("start.")}
    start = resolve(_Started, {"start": tree.get("start", {})}, given).start
    trained = start.describe().network.config
    model = trained if isinstance(trained, ModelConfig) else vit.named(trained)
    # An initial bias belongs to a loss, and classes to a classifier.
    other: dict[str, Any] = {"classifier_bias": 0.0}
    if start.classifier == "new":
        other["num_classes"] = None
    return tree | {"model": stated(model) | other | tree.get("model", {})}


def run(
    config: FinetuneConfig, workdir: Workdir, name: str = "finetune", *, overview: bool = True
) -> Trained:
    """Fine-tunes a classifier and writes its workdir."""
    with train_log(workdir):
        return _run(config, workdir, name, overview)


def _run(config: FinetuneConfig, workdir: Workdir, name: str, overview: bool) -> Trained:
    config = config.completed(config.start.describe().view)
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
