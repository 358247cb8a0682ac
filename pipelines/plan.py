r"""Plans a run on TPUs that are not here: does it fit, and how long would it take?

  python pipelines/plan.py --config=configs/pretrain/vit_22b.py --topology=v4:8x8x16
  python pipelines/plan.py --config=configs/distill/b16_from_22b.py --topology=v5p:4x4x8 --sweep

Compiles the real training step (of a pre-training, a distillation or a pair) for the slice with
libtpu (the extra `plan`): no weights, no data, no TPU. Memory is what the compiler lays out; all
times are estimates from the compiler's schedule (distill/estimate/cost.py says how). Exit status 1
if the step does not fit.
"""

import json
import re
import sys
from pathlib import Path

from absl import flags

from distill import config as configs
from distill.bounds import Images
from distill.command.flags import (
    check_writable,
    define_config,
    define_number,
    define_path,
    parse,
    split_overrides,
)
from distill.command.kind import command_of, family_of
from distill.command.launch import launch
from distill.errors import RunFailed, UserError
from distill.estimate.jobs import Planned, in_full, make_plan, run_steps
from distill.estimate.sweep import sweep, variations
from distill.estimate.topology import Topology, open_topology
from distill.parallel.printed import say
from distill.report.breakdown import breakdown_figures, breakdown_table
from distill.report.plan import plan_advice, plan_figures, plan_table, sweep_table
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import PairTrainingConfig
from distill.runs.pretraining import PretrainConfig

FLAGS = flags.FlagValues()
define_config(FLAGS)
flags.DEFINE_string("topology", "v4:8x8x16", "TPU slice, such as v5p:4x4x8.", flag_values=FLAGS)
define_number("train_images", "Training images, for runs whose length is in epochs.", FLAGS, Images)
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
flags.DEFINE_bool("json", False, "Print JSON instead of a table.", flag_values=FLAGS)
define_path("dump_hlo", "Directory for the scheduled program as text.", FLAGS)

_SCHEMAS = {"distill_student": DistillConfig, "train_pair": PairTrainingConfig}


def load_config(spec: str, overrides: dict[str, str]) -> Planned:
    """The config of a training run in a file, by its keys, with towers of teachers in full."""
    tree = configs.load_file(spec)
    command = command_of(tree.keys(), family_of(tree))
    return in_full(configs.resolve(_SCHEMAS.get(command, PretrainConfig), tree, overrides))


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
    return re.fullmatch(r"0{,8}[1-9]\d{,8}", text) is not None


def _sweep(config: Planned, topology: Topology, steps: int | None) -> None:
    """Plans what the flags ask for and prints it, best first."""
    tried = variations(
        config,
        topology.chips,
        [_mesh_sizes(text, config.mesh.axis_names) for text in FLAGS.sweep_meshes],
        FLAGS.sweep_remat,
        [_number(text) for text in FLAGS.sweep_microbatches],
    )
    results = [
        plan_figures(plan, variation, topology, steps)
        for variation, plan in sweep(list(tried), topology, steps, FLAGS.train_images)
    ]
    if not results:
        raise UserError("nothing of the sweep can be planned; see above")
    print(json.dumps(results, indent=1) if FLAGS.json else sweep_table(results))
    if not any(found["fits"] for found in results):
        raise RunFailed("nothing that was tried fits")


def main(arguments: list[str]) -> None:
    """Plans what the flags ask for."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("config", "topology"))
    config = load_config(FLAGS.config, overrides)
    topology = open_topology(FLAGS.topology)
    steps = run_steps(config, FLAGS.train_images)
    if FLAGS.sweep:
        if FLAGS.dump_hlo or FLAGS.breakdown:
            raise UserError("--dump_hlo and --breakdown are of one program; leave --sweep out")
        _sweep(config, topology, steps)
        return
    if FLAGS.sweep_meshes or FLAGS.sweep_remat or FLAGS.sweep_microbatches:
        raise UserError("--sweep_… says what --sweep tries; add --sweep")
    dump = Path(FLAGS.dump_hlo) / "step.hlo.txt" if FLAGS.dump_hlo else None
    check_writable("dump_hlo", dump)
    say(f"compiling for {topology.name}; a large model takes a minute or two")
    plan = make_plan(config, topology, steps, FLAGS.train_images, dump)
    found = plan_figures(plan, config, topology, steps)
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
