"""Teachers: what a config says of them, their trained networks, and how good they are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jax.sharding import Mesh

from distill.config import resolve
from distill.data import Splits
from distill.errors import UserError
from distill.evaluate import Evaluator, classification_metrics
from distill.evaluate.chance import warn_if_near_chance
from distill.matching.distillation import Teacher
from distill.nn import Params
from distill.nn.fingerprint import fingerprint
from distill.parallel import Rules, override_rules
from distill.train.fit import evaluation_loader
from distill.train.progress import say
from distill.train.run import RunConfig
from distill.train.workdir import Workdir, read_config
from pipelines.models import EXECUTION, ModelConfig, load_model
from pipelines.weights import WeightsConfig, describe_network, load_weights

# What a single teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Whose function the student matches."""

    workdir: str | None = None
    """Of the run that trained the teacher."""
    weights: WeightsConfig | None = None
    """Published weights, in place of `workdir`."""
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
        if (self.workdir is None) == (self.weights is None):
            raise ValueError(
                "give workdir, of the run that trained the teacher, or weights.path, of published "
                "weights; none takes away the one that a config file gives"
            )
        if self.weights is not None and (self.step is not None or self.model is not None):
            raise ValueError("step and model are those of a workdir; weights have neither")
        if self.weight <= 0:
            raise ValueError(f"weight must be positive, not {self.weight}")

    @property
    def source(self) -> str:
        """Where the teacher is: the workdir or the path of its weights."""
        return self.workdir if self.weights is None else self.weights.path

    @property
    def described(self) -> dict[str, Any]:
        """What the teacher is, from which `pipelines.weights.described_network` builds it.

        Raises:
          UserError: if it is not there.
        """
        if self.weights is None:
            return read_config(Path(self.workdir))["model"]
        return describe_network(self.weights.open(self.dtype).network)


def load_teachers(
    configs: Mapping[str, TeacherConfig], mesh: Mesh
) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The networks of trained teachers and their parameters, by name.

    Raises:
      UserError: for a workdir that does not hold the model that is expected, or weights that
        cannot be read.
    """
    teachers, params = {}, {}
    for name, config in configs.items():
        names, common = (), dict(dtype=config.dtype, rules=config.rules)
        if config.weights is not None:
            network, params[name], names = load_weights(config.weights, mesh, **common)
        else:
            path, step = Path(config.workdir), config.step
            network, params[name] = load_model(
                path, mesh, step=step, expected=config.model, **common
            )
        teachers[name] = Teacher(network, config.weight, names)
    return teachers, params


def check_class_names(teachers: Mapping[str, Teacher], splits: Splits) -> None:
    """Checks that teachers who name the classes of the data have them in its order.

    Of one that calls as many classes otherwise it is said that its order is taken to be the data's.

    Raises:
      UserError: if one has them in another.
    """
    ours = tuple(splits.train.class_names)
    for name, teacher in teachers.items():
        theirs = teacher.class_names
        if ours and len(theirs) == len(ours) and not {*theirs} & {*ours}:
            say(
                f"warning: {name} calls its first class {theirs[0]!r} and the data {ours[0]!r}; "
                "their classes are taken to be in one order"
            )
        if theirs != ours and sorted(theirs) == sorted(ours):
            first = next(
                i for i, pair in enumerate(zip(theirs, ours, strict=True)) if len({*pair}) > 1
            )
            raise UserError(
                f"the teacher has the classes of the data in another order: its class {first} is "
                f"{theirs[first]!r}, and the data's {ours[first]!r}; set config.data.classes to "
                f"{theirs}"
            )


def recorded_teachers(recorded: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """The teachers of a run, as its config.json names them; none of a run that had none."""
    named = dict(recorded.get("teachers") or {})
    if recorded.get("teacher"):
        named[TEACHER] = recorded["teacher"]
    return {name: resolve(TeacherConfig, config) for name, config in named.items()}


def teachers_of(workdir: Path, recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The teachers a run recorded with their fingerprints; of an older run, those of its config."""
    return Workdir(workdir).teachers or {
        name: dataclasses.asdict(teacher) | {"source": teacher.source}
        for name, teacher in recorded_teachers(recorded).items()
    }


def fingerprints(
    configs: Mapping[str, TeacherConfig], params: Mapping[str, Params]
) -> dict[str, str]:
    """Of each teacher, by name: a text that another function would not have."""
    found = {}
    for name, config in configs.items():
        model = {k: value for k, value in config.described.items() if k not in EXECUTION}
        if config.dtype is not None:
            model["dtype"] = config.dtype
        found[name] = fingerprint(params[name], model)
    return found


class Score(NamedTuple):
    """How good a teacher is."""

    accuracy: float
    images: int
    """On how many."""


def score(
    config: RunConfig,
    teachers: Mapping[str, Teacher],
    params: Mapping[str, Params],
    splits: Splits,
    view_size: int,
) -> dict[str, Score]:
    """The accuracy on the validation split of each teacher that tells its classes apart.

    Raises:
      RunFailed: if a teacher's outputs are not finite.
    """
    images = splits.validation
    if images is None:
        return {}
    found = {}
    for name, teacher in teachers.items():
        if teacher.network.config.num_classes != len(images.class_names):
            continue
        batches = evaluation_loader(config, images, teacher.network.placement.mesh, view_size)
        evaluator = Evaluator(name, batches, classification_metrics(teacher.network))
        metrics, metric = evaluator(params[name]), f"{name}/accuracy"
        if metric not in evaluator.missing:
            found[name] = Score(metrics[metric], evaluator.counts[metric])
    return found


def say_scores(
    name: str, scores: Mapping[str, Score], splits: Splits, *, stored: bool = False
) -> None:
    """Says how good teachers are, or were when what they say was stored, and warns of guessing."""
    when = ", when its targets were stored" if stored else ""
    for key, (accuracy, images) in scores.items():
        whose = "teacher" if key == TEACHER else f"teacher {key}"
        say(f"{name}: {whose} accuracy {accuracy:.2%} on validation{when}")
        if splits.validation is None:
            continue
        classes = len(splits.validation.class_names)
        if warning := warn_if_near_chance(accuracy, classes, images):
            say(f"{name}: warning: {whose}: {warning}")
