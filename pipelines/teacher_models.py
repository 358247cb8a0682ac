"""Teachers: what a config says of them, their trained networks, and how good they are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh

from distill.config import resolve
from distill.data import Splits
from distill.evaluate import Evaluator, classification_metrics
from distill.evaluate.chance import warn_if_near_chance
from distill.matching.distillation import Teacher
from distill.nn import Params
from distill.nn.fingerprint import fingerprint
from distill.parallel import Rules, override_rules
from distill.train.fit import evaluation_loader
from distill.train.progress import say
from distill.train.run import RunConfig
from distill.train.workdir import read_config
from pipelines.models import EXECUTION, ModelConfig, load_model

# What a single teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Whose function the student matches."""

    workdir: str
    """Of the run that trained the teacher."""
    step: int | None = None
    """Of the teacher's checkpoint; None takes the last of a run that is complete, which pins it."""
    weight: float = 1.0
    """How much it counts among several teachers."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the teacher's parameters and activations; None keeps the dtype of its run."""
    rules: Rules = ()
    """(logical axis, mesh axes) pairs: where the teacher's arrays live, as config.mesh.rules says
    it of the student's."""
    model: ModelConfig | None = None
    """What the workdir is expected to hold; None takes what is there."""

    def __post_init__(self):
        override_rules(self.rules)
        if self.weight <= 0:
            raise ValueError(f"weight must be positive, not {self.weight}")


def load_teachers(
    configs: Mapping[str, TeacherConfig], mesh: Mesh
) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The networks of trained teachers and their parameters, by name.

    Raises:
      UserError: for a workdir that does not hold the model that is expected.
    """
    teachers, params = {}, {}
    for name, config in configs.items():
        network, params[name] = load_model(
            Path(config.workdir),
            mesh,
            step=config.step,
            dtype=config.dtype,
            rules=config.rules,
            expected=config.model,
        )
        teachers[name] = Teacher(network, config.weight)
    return teachers, params


def recorded_teachers(recorded: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """The teachers of a run, as its config.json names them; none of a run that had none."""
    named = dict(recorded.get("teachers") or {})
    if recorded.get("teacher"):
        named[TEACHER] = recorded["teacher"]
    return {name: resolve(TeacherConfig, config) for name, config in named.items()}


def fingerprints(
    configs: Mapping[str, TeacherConfig], params: Mapping[str, Params]
) -> dict[str, str]:
    """Of each teacher, by name: a text that another function would not have."""
    found = {}
    for name, config in configs.items():
        recorded = read_config(Path(config.workdir))["model"]
        model = {key: value for key, value in recorded.items() if key not in EXECUTION}
        if config.dtype is not None:
            model["dtype"] = config.dtype
        found[name] = fingerprint(params[name], model)
    return found


def score(
    config: RunConfig,
    teachers: Mapping[str, Teacher],
    params: Mapping[str, Params],
    splits: Splits,
    view_size: int,
) -> dict[str, float]:
    """The accuracy on the validation split of each teacher that tells its classes apart."""
    images = splits.validation
    if images is None:
        return {}
    found = {}
    for name, teacher in teachers.items():
        if teacher.network.config.num_classes != len(images.class_names):
            continue
        batches = evaluation_loader(config, images, teacher.network.placement.mesh, view_size)
        evaluate = Evaluator(name, batches, classification_metrics(teacher.network))
        found[name] = evaluate(params[name])[f"{name}/accuracy"]
    return found


def say_accuracies(
    name: str, accuracies: Mapping[str, float], splits: Splits, *, stored: bool = False
) -> None:
    """Says how good teachers are, or were when what they say was stored, and warns of guessing."""
    when = ", when its targets were stored" if stored else ""
    for key, accuracy in accuracies.items():
        whose = "teacher" if key == TEACHER else f"teacher {key}"
        say(f"{name}: {whose} accuracy {accuracy:.2%} on validation{when}")
        if splits.validation is None:
            continue
        classes = len(splits.validation.class_names)
        if warning := warn_if_near_chance(accuracy, classes, len(splits.validation)):
            say(f"{name}: warning: {whose}: {warning}")
