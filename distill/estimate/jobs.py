"""From a config to the step that its run would compile."""

import functools
from pathlib import Path

from jax.sharding import Mesh

from distill.errors import UserError
from distill.estimate.plan import Job, Plan, plan_step
from distill.estimate.topology import Topology
from distill.nn import Params, VisionNetwork
from distill.nn.family import ModelConfig
from distill.optim import make_optimizer, make_schedule
from distill.runs.distillation import DistillConfig
from distill.runs.models import abstract_params
from distill.runs.opened import describe_model
from distill.runs.pretraining import PretrainConfig
from distill.runs.teachers import TeacherConfig, config_key
from distill.subject import Teacher
from distill.tasks.classification import Classification
from distill.tasks.matching.function_matching import FunctionMatching, projected
from distill.train.run import RunConfig, blame, check_batch

Planned = PretrainConfig | DistillConfig
"""The config of a run whose step is planned."""


def model_of(config: Planned) -> ModelConfig:
    """The model that a run trains.

    Raises:
      UserError: if it trains several.
    """
    if config.model is None:
        raise UserError("a plan is of one student at a time; give it as config.model")
    return config.model


def make_job(
    config: Planned, mesh: Mesh, steps: int | None, train_images: int | None = None
) -> Job:
    """What a run of `config` on `mesh` would compile.

    Raises:
      UserError: if the config does not say what its teacher is, or has several students.
    """
    model = model_of(config)
    if isinstance(config, DistillConfig) and config.targets:
        raise UserError("a plan is of a run that asks its teacher; leave config.targets out")
    network = model.network().placed(mesh, config.mesh.table)
    with blame("config.mesh"):
        network.check_rules()
    teachers, frozen = {}, None
    if isinstance(config, DistillConfig):
        teachers, frozen = _abstract_teachers(config, mesh)
        network = projected(network, teachers, config.matching)
    with blame("config.schedule"):
        # What is not known does not change what is compiled.
        schedule = make_schedule(
            config.schedule,
            steps or 10**9,
            batch_size=config.train.batch_size,
            images=train_images or 10**6,
        )
    with blame("config.optimizer.weight_decay"):
        optimizer = make_optimizer(
            config.optimizer, schedule, network.abstract_params, network.axes
        )
    with blame("config.model"):
        network.check(config.train.batch_size)
    job = functools.partial(
        Job,
        network=network,
        optimizer=optimizer,
        batch_size=config.train.batch_size,
        microbatches=config.train.microbatches,
    )
    if isinstance(config, PretrainConfig):
        task = Classification(network, config.loss)
        return job(task=task, view_size=max(network.config.image_shape[:2]))
    with blame("config.teacher.model"):
        for name, teacher in teachers.items():
            teacher.network.check(config.train.batch_size)
            config.matching.check_teacher(
                name, teacher.network.config.num_classes, network.config.num_classes
            )
    networks = tuple(teacher.network for teacher in teachers.values())
    return job(
        task=FunctionMatching(network, teachers, config.matching),
        view_size=max(side for n in (network, *networks) for side in n.config.image_shape[:2]),
        teacher_view=config.matching.teacher_view,
        teachers=networks,
        frozen=frozen,
    )


def _abstract_teachers(config: DistillConfig, mesh: Mesh) -> tuple[dict[str, Teacher], Params]:
    """Teachers as the config describes them, and their parameters' shapes."""
    teachers, frozen = {}, {}
    for name, one in config.every_teacher.items():
        key = config_key(name)
        network = _teacher_network(key, one)
        with blame(key):
            network = network.placed(mesh, one.table)
            network.check_rules()
        teachers[name] = Teacher(network, one.weight)
        frozen[name] = abstract_params(network, one.dtype)
    return teachers, frozen


def _teacher_network(key: str, config: TeacherConfig) -> VisionNetwork:
    """The network of a teacher, whose workdir need not be here if the config says what it holds."""
    if config.model is not None:
        return config.model.executed(dtype=config.dtype or config.model.dtype).network()
    try:
        return describe_model(config.place, dtype=config.dtype).network
    except UserError as error:
        if config.weights is not None:
            raise
        raise UserError(f"{error}. A plan without the teacher's run needs {key}.model") from error


def run_steps(config: RunConfig, train_images: int | None) -> int | None:
    """The run's length, or None if it depends on a number of images nobody gave."""
    if config.train.total_epochs is not None and train_images is None:
        return None
    with blame("config.train"):
        return config.train.steps(train_images or 0)


def make_plan(
    config: Planned,
    topology: Topology,
    steps: int | None,
    train_images: int | None = None,
    dump: Path | None = None,
) -> Plan:
    """Compiles the step of a run on a slice.

    Args:
      config: of the run.
      topology: the slice.
      steps: the run's length; None where nobody knows it.
      train_images: how many there are; None where nobody knows it.
      dump: where to write the scheduled program as text.

    Raises:
      UserError: if run and slice do not fit, or the config does not say what its teacher is.
    """
    with blame("config.mesh"):
        mesh = topology.mesh(config.mesh)
    check_batch(config, mesh)
    job = make_job(config, mesh, steps, train_images)
    return plan_step(job, topology, mesh, dump)
