r"""Plans a run on TPUs that are not here: does it fit, and how long would it take?

  python pipelines/plan.py --config=configs/pretrain/vit_22b.py --topology=v4:8x8x16
  python pipelines/plan.py --config=configs/distill/b16_from_22b.py --topology=v5p:4x4x8 --sweep

Compiles the real training or distillation step for the slice with libtpu (the extra `plan`): no
weights, no data, no TPU. Memory is what the compiler lays out; all times are estimates from the
compiler's schedule (distill/estimate/cost.py says how). Exit status 1 if the step does not fit.
"""

import dataclasses
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags
from jax.sharding import Mesh

from distill import config as configs
from distill.command.launch import define_config, define_path, launch, parse, split_overrides
from distill.errors import RunFailed, UserError
from distill.estimate.plan import Job, Plan, plan_step
from distill.estimate.topology import Topology, open_topology
from distill.nn import Params
from distill.optim import make_optimizer, make_schedule
from distill.report.plan import plan_advice, plan_figures, plan_table, sweep_table
from distill.runs.teachers import config_key
from distill.tasks.classification import Classification
from distill.tasks.matching.function_matching import FunctionMatching, Teacher, projected
from distill.train.progress import format_seconds, say
from distill.train.run import RunConfig, blame, check_batch
from distill.train.state import with_shardings
from pipelines.distill_student import DistillConfig
from pipelines.pretrain import PretrainConfig

FLAGS = flags.FlagValues()
define_config(FLAGS)
flags.DEFINE_string("topology", "v4:8x8x16", "TPU slice, such as v5p:4x4x8.", flag_values=FLAGS)
flags.DEFINE_integer(
    "train_images", None, "Training images, for runs whose length is in epochs.", 1,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool(
    "sweep", False, "Try meshes, rematerialisation and microbatches, best first.", flag_values=FLAGS
)
flags.DEFINE_list(
    "sweep_meshes", [],
    "Meshes to try, such as 16x64x1,8x128x1 (data x fsdp x tensor, then config.mesh.axes).",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list("sweep_remat", [], "Policies to try, such as full,dots.", flag_values=FLAGS)
flags.DEFINE_list("sweep_microbatches", [], "Numbers to try, such as 1,2.", flag_values=FLAGS)
flags.DEFINE_bool("json", False, "Print JSON instead of a table.", flag_values=FLAGS)
define_path("dump_hlo", "Directory for the scheduled program as text.", FLAGS)


def load_config(spec: str, overrides: dict[str, str]) -> RunConfig:
    """The pre-training or distillation config in a file; one with a teacher is the latter."""
    tree = configs.load_file(spec)
    schema = DistillConfig if tree.keys() & {"teacher", "teachers"} else PretrainConfig
    return configs.resolve(schema, tree, overrides)


def make_job(
    config: RunConfig, mesh: Mesh, steps: int | None, train_images: int | None = None
) -> Job:
    """What a run of `config` on `mesh` would compile.

    Raises:
      UserError: if the config does not say what its teacher is, or has several students.
    """
    if config.model is None:
        raise UserError("a plan is of one student at a time; give it as config.model")
    if isinstance(config, DistillConfig) and config.targets:
        raise UserError("a plan is of a run that asks its teacher; leave config.targets out")
    network = config.model.network().placed(mesh, config.mesh.table)
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
    common = dict(
        network=network,
        optimizer=optimizer,
        batch_size=config.train.batch_size,
        microbatches=config.train.microbatches,
    )
    if isinstance(config, PretrainConfig):
        task = Classification(network, config.loss)
        return Job(task=task, view_size=max(network.config.image_shape[:2]), **common)
    with blame("config.teacher.model"):
        for name, teacher in teachers.items():
            teacher.network.check(config.train.batch_size)
            config.matching.check_teacher(
                name, teacher.network.config.num_classes, network.config.num_classes
            )
    networks = tuple(teacher.network for teacher in teachers.values())
    return Job(
        task=FunctionMatching(network, teachers, config.matching),
        view_size=max(side for n in (network, *networks) for side in n.config.image_shape[:2]),
        teacher_image=config.matching.teacher_view != "same",
        teachers=networks,
        frozen=frozen,
        **common,
    )


def _abstract_teachers(config: DistillConfig, mesh: Mesh) -> tuple[dict[str, Teacher], Params]:
    """Teachers as the config describes them, and their parameters' shapes."""
    teachers, frozen = {}, {}
    for name, one in config.every_teacher.items():
        key = config_key(name)
        if one.weights is not None:
            network = one.weights.open(one.dtype).network
        elif one.model is not None:
            network = dataclasses.replace(one.model, dtype=one.dtype or one.model.dtype).network()
        else:
            raise UserError(f"a plan needs {key}.model: there is no teacher's workdir to read")
        with blame(key):
            network = network.placed(mesh, one.table)
            network.check_rules()
        shapes = jax.tree.map(
            lambda leaf, dtype=one.dtype or "float32": jax.ShapeDtypeStruct(leaf.shape, dtype),
            network.abstract_params,
        )
        teachers[name] = Teacher(network, one.weight)
        frozen[name] = with_shardings(shapes, network.shardings)
    return teachers, frozen


def run_steps(config: RunConfig, train_images: int | None) -> int | None:
    """The run's length, or None if it depends on a number of images nobody gave."""
    if config.train.total_epochs is not None and train_images is None:
        return None
    with blame("config.train"):
        return config.train.steps(train_images or 0)


def make_plan(
    config: RunConfig, topology: Topology, steps: int | None, dump: Path | None = None
) -> Plan:
    """Compiles one configuration."""
    with blame("config.mesh"):
        mesh = topology.mesh(config.mesh)
    check_batch(config, mesh)
    job = make_job(config, mesh, steps, FLAGS.train_images)
    return plan_step(job, topology, mesh, dump)


def variations(config: RunConfig, chips: int) -> Iterator[RunConfig]:
    """What a sweep tries: meshes, rematerialisation and microbatches."""
    axes = config.mesh.axis_names
    # A further axis that takes the devices that are left finds none.
    shared = chips // math.prod(max(size, 1) for _, size in config.mesh.axes)
    meshes = [_mesh_sizes(text, axes) for text in FLAGS.sweep_meshes] or [
        dict(data=shared // (fsdp * tensor), fsdp=fsdp, tensor=tensor)
        for tensor in (1, 2)
        for fsdp in sorted({shared // tensor, min(64, shared // tensor), min(16, shared // tensor)})
        if fsdp and shared % (fsdp * tensor) == 0
    ]
    policies = FLAGS.sweep_remat or [config.model.remat]
    parts = config.train.microbatches
    microbatches = [_number(text) for text in FLAGS.sweep_microbatches]
    microbatches = microbatches or [parts, 2 * parts]
    for sizes, remat, parts in itertools.product(meshes, policies, microbatches):
        kept = config.model.remat_keep if remat == "full" else ()
        with blame("--sweep_remat"):
            yield dataclasses.replace(
                config,
                mesh=config.mesh.resized(sizes),
                model=dataclasses.replace(config.model, remat=remat, remat_keep=kept),
                train=dataclasses.replace(config.train, microbatches=parts),
            )


def _mesh_sizes(text: str, axes: tuple[str, ...]) -> dict[str, int]:
    sizes = text.split("x")
    if len(sizes) != len(axes) or not all(map(_is_positive, sizes)):
        raise UserError(
            f"--sweep_meshes has {text!r}; expected {' x '.join(axes)}, such as "
            f"{'x'.join(['16', '64', *['1'] * (len(axes) - 2)])}"
        )
    return dict(zip(axes, map(int, sizes), strict=True))


def _number(text: str) -> int:
    if not _is_positive(text):
        raise UserError(f"--sweep_microbatches has {text!r}; expected a number above 0")
    return int(text)


def _is_positive(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def sweep(config: RunConfig, topology: Topology, steps: int | None) -> None:
    """Plans all variations and prints them, best first."""
    tried, results = list(variations(config, topology.chips)), []
    began = time.perf_counter()
    for number, variation in enumerate(tried, 1):
        try:
            plan = make_plan(variation, topology, steps)
        except UserError as error:
            # What cannot be planned must not lose what has been.
            say(f"left out: {error}")
        else:
            results.append(plan_figures(plan, variation, topology, steps))
        left = (time.perf_counter() - began) / number * (len(tried) - number)
        say(f"tried {number} of {len(tried)}; {format_seconds(left)} left")
    if not results:
        raise UserError("nothing of the sweep can be planned; see above")
    print(json.dumps(results, indent=1) if FLAGS.json else sweep_table(results))
    if not any(found["fits"] for found in results):
        raise RunFailed("nothing that was tried fits")


def _dump_file(directory: str) -> Path:
    """Where the program will go, tried before anybody waits for it."""
    file = Path(directory) / "step.hlo.txt"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise UserError(f"--dump_hlo: cannot write {file}: {error.strerror}") from error
    return file


def main(arguments: list[str]) -> None:
    """Plans what the flags ask for."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("config", "topology"))
    config = load_config(FLAGS.config, overrides)
    topology = open_topology(FLAGS.topology)
    steps = run_steps(config, FLAGS.train_images)
    if FLAGS.sweep:
        if FLAGS.dump_hlo:
            raise UserError("--dump_hlo keeps one program; leave --sweep out")
        sweep(config, topology, steps)
        return
    if FLAGS.sweep_meshes or FLAGS.sweep_remat or FLAGS.sweep_microbatches:
        raise UserError("--sweep_… says what --sweep tries; add --sweep")
    dump = _dump_file(FLAGS.dump_hlo) if FLAGS.dump_hlo else None
    say(f"compiling for {topology.name}; a large model takes a minute or two")
    found = plan_figures(make_plan(config, topology, steps, dump), config, topology, steps)
    print(json.dumps(found, indent=1) if FLAGS.json else plan_table(found, steps))
    if dump and found["fits"]:
        say(f"scheduled program: {dump}")
    sys.stdout.flush()
    if not found["fits"]:
        raise RunFailed(plan_advice(found))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
