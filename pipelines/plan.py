r"""Plans a run on TPUs or GPUs that are not here: does it fit, and how long would it take?

  python pipelines/plan.py --config=configs/pretrain/vit_22b.py --topology=v4:8x8x16
  python pipelines/plan.py --config=configs/distill/b16_from_22b.py --topology=v5p:4x4x8 --sweep

Compiles the real training step (of a pre-training, a distillation or a pair) for the slice with
libtpu (the extra `plan`): no weights, no data, no TPU. Memory is what the compiler lays out; all
times are estimates from the compiler's schedule (distill/estimate/cost.py says how). For GPUs, such
as --topology=h100:8x4, nothing is compiled: the step is traced, and its time is a roofline
(distill/estimate/roofline.py). --store_targets plans storing what the teacher says in place of
training, and --price says what it costs. Exit status 1 if the step does not fit.
"""

import json
import sys
from pathlib import Path

from absl import flags

from distill.bounds import Images
from distill.command.flags import (
    check_writable,
    define_config,
    define_number,
    define_path,
    define_price,
    parse,
    split_overrides,
)
from distill.command.launch import launch
from distill.command.planned import load_config, mesh_sizes, positive
from distill.errors import RunFailed, UserError
from distill.estimate.jobs import Planned, make_plan, run_steps
from distill.estimate.machines import Machine, open_machine
from distill.estimate.storing import plan_storing
from distill.estimate.sweep import sweep, variations
from distill.estimate.topology import Topology
from distill.parallel.printed import say
from distill.report.breakdown import breakdown_figures, breakdown_table
from distill.report.plan import plan_advice, plan_figures, plan_table, sweep_table
from distill.report.storing_plan import storing_figures, storing_table
from distill.runs.storing import StoreTargetsConfig

FLAGS = flags.FlagValues()
define_config(FLAGS)
define_number("train_images", "Training images, for runs whose length is in epochs.", FLAGS, Images)
flags.DEFINE_string(
    "topology", "v4:8x8x16", "TPU slice or GPUs, such as v5p:4x4x8 or h100:8x4.",
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
flags.DEFINE_bool(
    "breakdown", False, "Say what the step's time is spent on, kind by kind.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "store_targets", False, "Plan storing what teachers say, and training on it.", flag_values=FLAGS
)
define_price(FLAGS)
flags.DEFINE_bool("json", False, "Print JSON instead of a table.", flag_values=FLAGS)
define_path("dump_hlo", "Directory for the scheduled program as text.", FLAGS)


def _sweep(config: Planned, topology: Machine, steps: int | None) -> None:
    """Plans what the flags ask for and prints it, best first."""
    tried = variations(
        config,
        topology,
        [mesh_sizes(text, config.mesh.axis_names) for text in FLAGS.sweep_meshes],
        FLAGS.sweep_remat,
        [positive(text) for text in FLAGS.sweep_microbatches],
    )
    results = [
        plan_figures(plan, variation, topology, steps, FLAGS.price)
        for variation, plan in sweep(list(tried), topology, steps, FLAGS.train_images)
    ]
    if not results:
        raise UserError("nothing of the sweep can be planned; see above")
    print(json.dumps(results, indent=1) if FLAGS.json else sweep_table(results))
    if not any(found["fits"] for found in results):
        raise RunFailed("nothing that was tried fits")


def _store(config: Planned, machine: Machine, steps: int | None) -> None:
    """Plans storing what the config's teachers say, and prints it."""
    assert isinstance(config, StoreTargetsConfig)
    if steps is None or FLAGS.train_images is None:
        raise UserError("how much is stored follows from the number of images: --train_images=N")
    plan = plan_storing(config, machine, steps, FLAGS.train_images)
    found = storing_figures(plan, config, machine, FLAGS.price)
    print(json.dumps(found, indent=1) if FLAGS.json else storing_table(found))
    if not found["storing"]["fits"]:
        raise RunFailed("asking the teachers does not fit; try a smaller batch or a larger machine")


def main(arguments: list[str]) -> None:
    """Plans what the flags ask for."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("config", "topology"))
    config = load_config(FLAGS.config, overrides, FLAGS.store_targets)
    topology = open_machine(FLAGS.topology)
    steps = run_steps(config, FLAGS.train_images)
    if FLAGS.price is not None and steps is None:
        raise UserError("what a run of epochs costs follows from --train_images=N; give it too")
    if FLAGS.store_targets:
        if FLAGS.sweep or FLAGS.dump_hlo or FLAGS.breakdown:
            raise UserError(
                "--store_targets plans three programs; leave --sweep, --dump_hlo, --breakdown out"
            )
        _store(config, topology, steps)
        return
    if FLAGS.sweep:
        if FLAGS.dump_hlo or FLAGS.breakdown:
            raise UserError("--dump_hlo and --breakdown are of one program; leave --sweep out")
        _sweep(config, topology, steps)
        return
    if FLAGS.sweep_meshes or FLAGS.sweep_remat or FLAGS.sweep_microbatches:
        raise UserError("--sweep_… says what --sweep tries; add --sweep")
    dump = Path(FLAGS.dump_hlo) / "step.hlo.txt" if FLAGS.dump_hlo else None
    check_writable("dump_hlo", dump)
    if isinstance(topology, Topology):
        say(f"compiling for {topology.name}; a large model takes a minute or two")
    elif FLAGS.breakdown:
        raise UserError(f"--breakdown is of a compiled program, which {topology.name} has none of")
    plan = make_plan(config, topology, steps, FLAGS.train_images, dump)
    found = plan_figures(plan, config, topology, steps, FLAGS.price)
    if FLAGS.json:
        further = {"breakdown": breakdown_figures(plan)} if FLAGS.breakdown else {}
        print(json.dumps(found | further, indent=1))
    else:
        print(plan_table(found, steps))
        if FLAGS.breakdown and plan.parts:
            print(f"\n{breakdown_table(plan)}")
    if dump and found["fits"]:
        say(f"scheduled program: {dump}")
    sys.stdout.flush()
    if not found["fits"]:
        raise RunFailed(plan_advice(found))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, keeps=False)
