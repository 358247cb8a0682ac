"""From a config to the step that its run would compile."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from distill.data.batch_spec import Shaped, TeacherView, batch_spec
from distill.data.spec import TokensSpec, labelled_images
from distill.errors import UserError
from distill.estimate.machines import Machine
from distill.estimate.plan import Job, Plan, plan_step
from distill.estimate.roofline import local_mesh, plan_roofline
from distill.estimate.topology import Topology
from distill.estimate.towers import forward_flops, training_flops
from distill.nn import Params, TextConfig, VisionNetwork
from distill.nn.execution import Execution, planned_for
from distill.nn.family import ModelConfig
from distill.nn.int8 import abstract_quantised, quantised
from distill.optim import make_optimizer, make_schedule, trained_params
from distill.parallel import replicated
from distill.runs.distillation import DistillConfig
from distill.runs.models import abstract_params
from distill.runs.opened import describe_model
from distill.runs.pairs import STORED_EMBEDDING, PairTrainingConfig, image_of
from distill.runs.pretraining import PretrainConfig
from distill.runs.students import check_teachers
from distill.runs.teachers import TEACHER, TeacherConfig, config_key
from distill.subject import Teacher
from distill.tasks.classification import Classification
from distill.tasks.contrastive import Contrastive
from distill.tasks.matching.function_matching import FunctionMatching, projected
from distill.tasks.matching.standardise import STATISTICS
from distill.tasks.pairs import CAPTION
from distill.train.run import RunConfig, blame, check_batch
from distill.train.step import Task, check_microbatches
from students.pair import PairModel

Planned = PretrainConfig | DistillConfig | PairTrainingConfig
"""The config of a run whose step is planned."""

NetworkT = TypeVar("NetworkT", bound=VisionNetwork)


def model_of(config: Planned) -> ModelConfig:
    """The model that a run trains.

    Raises:
      UserError: if it trains several.
    """
    if config.model is None:
        raise UserError("a plan is of one student at a time; give it as config.model")
    return config.model


def trained_towers(config: Planned) -> dict[str, ModelConfig | TextConfig]:
    """What of the model a gradient goes through, by key of the config.

    Args:
      config: with its towers in full.
    """
    model, key = model_of(config), "config.model"
    if not isinstance(model, PairModel):
        return {key: model}
    image, text = model.towers
    found: dict[str, ModelConfig | TextConfig] = {}
    if not model.locked:
        found[f"{key}.image"] = image
    if not isinstance(config, DistillConfig) or config.matching.losses.needs_captions:
        found[f"{key}.text"] = text
    return found


def takes_microbatches(config: Planned) -> bool:
    """Whether the loss of a batch is the mean of those of its parts."""
    if isinstance(config, DistillConfig):
        return config.matching.losses.mean_over_examples
    return not isinstance(config, PairTrainingConfig)


def int8_teachers(config: Planned) -> list[str]:
    """The keys of teachers whose products are of int8 numbers."""
    teachers = {} if isinstance(config, PretrainConfig) else config.every_teacher
    return [config_key(name) for name, one in teachers.items() if one.quantize]


def block_of(config: Planned) -> str | None:
    """The key that says for how many texts similarities are computed at a time, if it says none."""
    if isinstance(config, PairTrainingConfig) and config.loss.block is None:
        return "config.loss.block"
    if isinstance(config, DistillConfig) and config.matching.losses.needs_captions:
        return None if config.matching.block else "config.matching.block"
    return None


def in_full(config: Planned) -> Planned:
    """The config with the towers that are left to a teacher, which need not be here.

    Raises:
      UserError: if nothing says what they are.
    """
    if isinstance(config, PairTrainingConfig) and config.model.image is None:
        if config.teacher is None or config.teacher.model is None:
            with _without("config.teacher"):
                return config.with_tower()
        return config.locked_to(image_of(config.teacher.model, "config.teacher.model"))
    if isinstance(config, DistillConfig) and config.keeps_text is not None:
        ((name, teacher),) = config.every_teacher.items()
        # A run takes the tower as it is, in whatever dtype it asks the teacher.
        as_it_is = dataclasses.replace(teacher, dtype=None)
        config = config.keeping(_teacher_network(config_key(name), as_it_is))
    if isinstance(config, DistillConfig) and model_of(config).num_classes is None:
        return _with_classes(config)
    return config


def _with_classes(config: DistillConfig) -> DistillConfig:
    """The config with as many classes as a teacher has, if one has any."""
    for name, teacher in config.every_teacher.items():
        if count := _teacher_network(config_key(name), teacher).config.num_classes:
            return dataclasses.replace(config, model=model_of(config).with_classes(count))
    return config


class _Work(NamedTuple):
    """What a step does, but for how it updates."""

    network: VisionNetwork
    """With what only training needs."""
    task: Task
    examples: dict[str, Shaped]
    """What a batch holds of each."""
    teachers: tuple[VisionNetwork, ...] = ()
    """That are asked."""
    frozen: Any = None
    """Their parameters' shapes, as the task takes them."""
    texts: bool = False
    """Whether texts are embedded."""


def make_job(
    config: Planned, mesh: Mesh, steps: int | None, train_images: int | None = None
) -> Job:
    """What a run of `config` on `mesh` would compile.

    Raises:
      UserError: if the config does not say what its teacher is, or has several students.
    """
    model_of(config)
    config = in_full(config)
    if isinstance(config, PretrainConfig):
        work = _pretraining(config, mesh)
    elif isinstance(config, DistillConfig):
        work = _distillation(config, mesh)
    else:
        work = _pair_training(config, mesh)
    network = work.network
    with blame("config.schedule"):
        # What is not known does not change what is compiled.
        schedule = make_schedule(
            config.schedule,
            steps or 10**9,
            batch_size=config.train.batch_size,
            images=train_images or 10**6,
        )
    with blame("config.optimizer"):
        params = network.abstract_params
        optimizer = make_optimizer(config.optimizer, schedule, params, network.axes)
        trained = trained_params(config.optimizer, params, network.axes)
    with blame("config.model"):
        network.check(config.train.batch_size)
    with blame("config.train"):
        check_microbatches(work.task, config.train.microbatches)
    asked = sum(forward_flops(one, work.texts) for one in work.teachers)
    return Job(
        network=network,
        task=work.task,
        optimizer=optimizer,
        trained=trained,
        average_decay=config.optimizer.average_decay,
        batch_size=config.train.batch_size,
        microbatches=config.train.microbatches,
        examples=work.examples,
        flops=training_flops(network, trained, work.texts) + asked,
        frozen=work.frozen,
    )


def _placed(config: Planned, mesh: Mesh, network: NetworkT) -> NetworkT:
    with blame("config.mesh"):
        network = network.placed(mesh, config.mesh.table)
        network.check_rules()
    return network


def _pretraining(config: PretrainConfig, mesh: Mesh) -> _Work:
    network = _placed(config, mesh, config.model.network())
    return _Work(network, Classification(network, config.loss), _examples(config, network))


def _distillation(config: DistillConfig, mesh: Mesh) -> _Work:
    if config.targets:
        raise UserError("a plan is of a run that asks its teacher; leave config.targets out")
    matching = config.matching
    network = _placed(config, mesh, model_of(config).network())
    found = {name: _teacher(name, one, mesh) for name, one in config.every_teacher.items()}
    teachers = {
        name: Teacher(found[name][0], one.weight) for name, one in config.every_teacher.items()
    }
    network = projected(network, teachers, matching)
    check_teachers(config, network, teachers)
    with blame("config.teacher.model"):
        for teacher in teachers.values():
            teacher.network.check(config.train.batch_size)
    networks = tuple(teacher.network for teacher in teachers.values())
    task = FunctionMatching(network, teachers, matching)
    frozen = {name: params for name, (_, params) in found.items()}
    if task.standardised:
        frozen[STATISTICS] = jax.tree.map(
            lambda one: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=replicated(mesh)),
            task.abstract_statistics,
        )
    return _Work(
        network,
        task,
        _examples(config, network, *networks, teacher_view=matching.teacher_view),
        networks,
        frozen,
        matching.losses.needs_captions,
    )


def _pair_training(config: PairTrainingConfig, mesh: Mesh) -> _Work:
    pair = config.model.build()
    examples = _examples(config, pair)
    if not config.model.locked:
        network = _placed(config, mesh, pair)
        return _Work(network, Contrastive(network, config.loss), examples, texts=True)
    network = _placed(config, mesh, pair.locked())
    if config.targets is not None:
        width = pair.config.image.embedding_width
        examples |= {STORED_EMBEDDING: Shaped((width,), np.dtype(np.float16))}
        task = Contrastive(network, config.loss, stored=STORED_EMBEDDING)
        return _Work(network, task, examples, texts=True)
    assert config.teacher is not None
    tower, params = _teacher(TEACHER, config.teacher, mesh)
    with blame("config.teacher.model"):
        tower.check(config.train.batch_size)
    task = Contrastive(network, config.loss, tower=tower)
    return _Work(network, task, examples, (tower,), params, texts=True)


def _examples(
    config: Planned, *networks: VisionNetwork, teacher_view: TeacherView = "same"
) -> dict[str, Shaped]:
    """What a batch holds of each example: views that no network has to enlarge, and captions."""
    spec = dict(labelled_images(networks[0].config.channels))
    if config.data.captions is not None:
        spec[CAPTION] = TokensSpec(config.data.captions.length)
    size = max(side for network in networks for side in network.config.image_shape[:2])
    return batch_spec(spec, size, teacher_view=teacher_view)


def _teacher(name: str, config: TeacherConfig, mesh: Mesh) -> tuple[VisionNetwork, Params]:
    """A teacher on the mesh as the config describes it, and its parameters' shapes."""
    key = config_key(name)
    network = _teacher_network(key, config)
    with blame(key):
        network = network.placed(mesh, config.table)
        network.check_rules()
    params = abstract_params(network, config.dtype)
    if config.quantize is None:
        return network, params
    with blame(f"{key}.quantize"):
        return quantised(network), abstract_quantised(network, params)


def _teacher_network(key: str, config: TeacherConfig) -> VisionNetwork:
    """The network of a teacher, who need not be here if the config says what it is."""
    if config.model is not None:
        executed = config.model.executed(dtype=config.dtype or config.model.dtype)
        return config.sized(executed.network())
    with _without(key):
        return config.sized(describe_model(config.place, dtype=config.dtype).network)


@contextlib.contextmanager
def _without(key: str) -> Iterator[None]:
    """Says of a teacher that is not here what a plan needs in its place."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}. A plan without the teacher itself needs {key}.model") from error


def run_steps(config: RunConfig, train_images: int | None) -> int | None:
    """The run's length, or None if it depends on a number of images nobody gave."""
    if config.train.total_epochs is not None and train_images is None:
        return None
    with blame("config.train"):
        return config.train.steps(train_images or 0)


def make_plan(
    config: Planned,
    topology: Machine,
    steps: int | None,
    train_images: int | None = None,
    dump: Path | None = None,
) -> Plan:
    """Compiles the step of a run on a slice of TPUs; for GPUs, its roofline.

    Args:
      config: of the run.
      topology: what it runs on.
      steps: the run's length; None where nobody knows it.
      train_images: how many there are; None where nobody knows it.
      dump: where to write the scheduled program as text.

    Raises:
      UserError: if run and machine do not fit, or the config does not say what its teacher is.
    """
    return make_jobs(config, topology, steps, train_images).plan(dump)


@dataclasses.dataclass(frozen=True)
class Jobs:
    """What a run does on a machine."""

    machine: Machine
    mesh: Mesh
    job: Job
    local: Job | None
    """Of a device's share of the batch, as a roofline is traced; None where steps are compiled."""

    def plan(self, dump: Path | None = None) -> Plan:
        """Plans the step.

        Raises:
          UserError: for a program that is to be kept, of a roofline.
        """
        if isinstance(self.machine, Topology):
            return plan_step(self.job, self.machine, self.mesh, dump)
        if dump is not None:
            raise UserError("there is no program to keep of a roofline; leave --dump_hlo out")
        assert self.local is not None
        return plan_roofline(self.job, self.local, self.machine, self.mesh)

    def changed(self, change: Callable[[Job], Job]) -> "Jobs":
        """The same with another job."""
        local = None if self.local is None else change(self.local)
        return dataclasses.replace(self, job=change(self.job), local=local)


def make_jobs(
    config: Planned, machine: Machine, steps: int | None, train_images: int | None = None
) -> Jobs:
    """What a run does on a machine; see `make_plan`."""
    with blame("config.mesh"):
        mesh = machine.mesh(config.mesh)
    check_batch(config, mesh)
    job = make_job(config, mesh, steps, train_images)
    if isinstance(machine, Topology):
        return Jobs(machine, mesh, job, None)
    local, devices = local_mesh(config.mesh)
    parts = mesh.shape["data"] * mesh.shape["fsdp"]
    train = dataclasses.replace(config.train, batch_size=config.train.batch_size // parts)
    with planned_for(machine.chip):
        executed = job.network.executions(job.batch_size // job.microbatches)
    model = _executed(model_of(config), executed)
    share = dataclasses.replace(config, mesh=local, train=train, model=model)
    return Jobs(machine, mesh, job, make_job(share, devices, None))


def _executed(model: ModelConfig, executed: Mapping[str, Execution]) -> ModelConfig:
    """A model's config with what was chosen for each of its encoders."""
    for key, how in executed.items():
        encoder: Any = getattr(model, key) if key else model
        encoder = dataclasses.replace(encoder, remat=how.remat, unroll=how.unroll)
        model = dataclasses.replace(model, **{key: encoder}) if key else encoder
    return model
