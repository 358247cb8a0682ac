"""Teachers: what a config says of them, their trained networks, and how good they are."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jax.sharding import Mesh

from distill.bounds import Side, Weight
from distill.config import how_it_runs, resolve
from distill.data import Splits
from distill.data.classes import Names, among, numbered, places
from distill.data.sources import abbreviate
from distill.errors import RunFailed, UserError, together
from distill.evaluate import Evaluator
from distill.evaluate.chance import warn_if_near_chance
from distill.evaluate.features import split_loader
from distill.evaluation_view import EvaluationView
from distill.metrics import classification_metrics
from distill.nn import Params, VisionNetwork
from distill.nn.adapt import at_image_size
from distill.nn.family import ModelConfig
from distill.nn.int8 import quantise, quantised
from distill.parallel import ParameterRules, Rules, RuleTable, override_rules
from distill.parallel.printed import say
from distill.runs.opened import ModelSource, describe_model, open_model
from distill.subject import Teacher
from distill.train.run import Run, RunConfig, blame
from distill.train.workdir import read_teachers

# What a single teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig(ModelSource):
    """Whose function the student matches."""

    weight: Weight = 1.0
    """How much it counts among several teachers."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the teacher's parameters and activations; None keeps the dtype of its run."""
    quantize: Literal["int8"] | None = None
    """Of the products in the blocks that see the image: int8 weights, made once as the teacher is
    read, and activations (`distill.nn.int8`). It makes the teacher faster and smaller, and another
    function."""
    image_size: Side | None = None
    """Side in pixels at which the model of `workdir` sees views, positions interpolated; None takes
    that it was trained at. Of published weights, `weights.image_size` says it."""
    rules: Rules = how_it_runs(())
    """(logical axis, mesh axes) pairs: where the teacher's arrays live, as config.mesh.rules says
    it of the student's."""
    params: ParameterRules = how_it_runs(())
    """(regex, mesh axes of each dimension) pairs, as config.mesh.params of the student."""
    model: ModelConfig | None = None
    """What the workdir is expected to hold, or published weights by names and shapes; None takes
    what is there. A plan takes its word where neither is."""

    def __post_init__(self):
        super().__post_init__()
        override_rules(self.rules, self.params)
        if self.image_size is not None and self.weights is not None:
            raise ValueError(
                "image_size is of a run's model; give weights.image_size for published weights"
            )

    @property
    def table(self) -> RuleTable:
        """Where the teacher's arrays live."""
        return override_rules(self.rules, self.params)

    def sized(self, network: VisionNetwork) -> VisionNetwork:
        """The teacher's network, for views of `image_size`.

        Raises:
          ConfigError: if patches do not divide it.
        """
        if self.image_size is None:
            return network
        with blame("config.teacher.image_size"):
            return network.with_tower(image_size=self.image_size)

    def described(self, dtype: str | None = None) -> dict[str, Any]:
        """What the teacher is; see `ModelSource.described`."""
        found = super().described(dtype)
        if self.image_size is None:
            return found
        sized = {"image_size": self.image_size}
        return found | ({"image": found["image"] | sized} if "image" in found else sized)


def config_key(name: str) -> str:
    """Where a config says who the teacher of that name is."""
    return "config.teacher" if name == TEACHER else f"config.teachers.{name}"


def check_there(configs: Mapping[str, TeacherConfig]) -> None:
    """Checks that what configs say of teachers is there, before anybody waits for images.

    Raises:
      UserError: saying of each teacher that is not what is wrong, and its key.
    """
    together(*(functools.partial(_check_there, key, one) for key, one in configs.items()))


def _check_there(name: str, config: TeacherConfig) -> None:
    key = config_key(name)
    place = config.place
    if isinstance(place, Path) and not place.exists():
        raise UserError(
            f"{key}.workdir is {config.source}, where nothing is; train the teacher there, or type "
            f"--{key}.workdir=DIR, of a run that is there. Of published weights: "
            f"--{key}.workdir=none --{key}.weights.path=PATH"
        )
    try:
        describe_model(place, expected=config.model)
    except RunFailed:
        raise
    except UserError as error:
        where = "workdir" if isinstance(place, Path) else "weights.path"
        raise UserError(f"{key}.{where}: {error}") from error


def load_teachers(
    configs: Mapping[str, TeacherConfig], mesh: Mesh
) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The networks of trained teachers and their parameters, by name.

    Raises:
      UserError: for rules that do not fit the mesh or the teacher, a workdir that does not hold the
        model that is expected, or weights that cannot be read.
    """
    for name, config in configs.items():
        if not config.rules and not config.params:
            continue
        with blame(config_key(name)):
            network = config.sized(describe_model(config.place).network)
            network.placed(mesh, config.table).check_rules()
    teachers, params = {}, {}
    for name, config in configs.items():
        one = open_model(
            config.place,
            mesh,
            step=config.step,
            dtype=config.dtype,
            rules=config.table,
            expected=config.model,
        )
        network = config.sized(one.network)
        found = at_image_size(one.params, one.network, network)
        if config.quantize is not None:
            with blame(f"{config_key(name)}.quantize"):
                network, found = quantised(network), quantise(network, found)
        teachers[name] = Teacher(network, config.weight, one.class_names, view=one.view)
        params[name] = found
    return teachers, params


def shown_as(config: Run, teachers: Mapping[str, Teacher]) -> Run:
    """The config of a student that is shown images as its teachers are, where nothing says how.

    What it leaves open becomes what all of its teachers have in common, or `EvaluationView`'s
    default where they differ.
    """
    # A pixel at an edge belongs to one model's patches.
    own = {name: getattr(EvaluationView(), name) for name in ("unseen", "rounding")}
    views = {dataclasses.replace(teacher.view, **own) for teacher in teachers.values()}
    return config.completed(views.pop() if len(views) == 1 else None)


def say_views(name: str, teachers: Mapping[str, Teacher], config: RunConfig) -> None:
    """Says what teachers are to be shown, where students are shown something else."""
    ours = config.data.view.evaluation
    for key, teacher in teachers.items():
        if teacher.view != ours:
            whose = "the teacher" if key == TEACHER else f"teacher {key}"
            shown = teacher.view.described(max(teacher.network.config.image_shape[:2]))
            say(f"{name}: {whose} is to be shown {shown}")


def match_classes(
    teachers: Mapping[str, Teacher], names: Names, *, compared: bool, in_order: bool
) -> dict[str, Teacher]:
    """The teachers with the order in which their logits are a student's, class by class.

    Args:
      teachers: by name.
      names: of the student's classes; empty where nothing names them, or it has none.
      compared: whether the student's loss compares logits; then a teacher has to have its classes.
      in_order: whether the user has said that classes of other names are in one order.

    Raises:
      UserError: for a teacher that does not have a class of the student's, where logits are
        compared.
    """
    found = {}
    for key, teacher in teachers.items():
        whose, theirs = "the teacher" if key == TEACHER else f"teacher {key}", teacher.class_names
        order = None
        if names and theirs and theirs != names:
            try:
                order = places(names, theirs, shown="the student", whose=whose, in_order=in_order)
            except UserError:
                if compared:
                    raise
                say(f"{whose} has other classes than the student: they are not compared")
                order = ()
        elif len(names) == teacher.classes > 0 and not theirs:
            say(
                f"warning: nothing says what {whose} calls its {len(names)} classes; they are "
                f"taken to be in the order of the student's, {abbreviate(names)}"
            )
        found[key] = dataclasses.replace(teacher, order=None if order == _all(teacher) else order)
    return found


def _all(teacher: Teacher) -> tuple[int, ...]:
    return tuple(range(teacher.network.config.num_classes))


def recorded_teachers(recorded: Mapping[str, Any]) -> dict[str, TeacherConfig]:
    """The teachers of a run, as its config.json names them; none of a run that had none."""
    named = dict(recorded.get("teachers") or {})
    if recorded.get("teacher"):
        named[TEACHER] = recorded["teacher"]
    return {name: resolve(TeacherConfig, config) for name, config in named.items()}


def teachers_of(workdir: Path, recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The teachers a run recorded with their fingerprints; of an older run, those of its config."""
    return read_teachers(workdir) or {
        name: dataclasses.asdict(teacher) | {"source": teacher.source}
        for name, teacher in recorded_teachers(recorded).items()
    }


def fingerprints(
    configs: Mapping[str, TeacherConfig], params: Mapping[str, Params]
) -> dict[str, str]:
    """Of each teacher, by name: a text that another function would not have."""
    return {
        name: config.fingerprint(params[name], config.dtype) for name, config in configs.items()
    }


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
) -> dict[str, Score]:
    """The accuracy on the validation split of each teacher that tells its classes apart.

    Each is shown images at its own resolution, as it is to be shown them.

    Raises:
      RunFailed: if a teacher's outputs are not finite.
    """
    images = splits.validation
    found = {}
    for name, teacher in teachers.items():
        if images is None:
            continue
        theirs = teacher.class_names or images.class_names
        if not theirs or teacher.network.config.num_classes != len(theirs):
            continue
        try:
            shown = numbered(
                images,
                theirs,
                shown="the validation data",
                whose=name,
                in_order=config.data.in_order,
            )
        except UserError:
            # What it says of other classes cannot be right or wrong.
            continue
        batches = split_loader(
            shown,
            config.data,
            teacher.network.mesh,
            size=max(teacher.network.config.image_shape[:2]),
            batch_size=config.train.batch_size,
            view=teacher.view,
        )
        evaluator = Evaluator(name, batches, classification_metrics(teacher.network, among(shown)))
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
