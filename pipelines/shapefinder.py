r"""Finds the largest models that fit a TPU: shapes over width, depth, heads and MLP, compiled.

  distill shapefinder --topology=v5e:1x1 --patch=14 --widths=1024:2048:256 --depths=12:60:12 \
      --workdir=runs/shapes --report=runs/shapes.html

The Shapefinder of "Scaling Vision Transformers" (arXiv 2106.04560). For each shape that is tried,
the real training step of a config (ViT-g/14's, if none is given) is compiled with libtpu (the
extra `plan`), a few minutes each; distill/estimate/shapes.py says which are. Memory is what the
compiler lays out, all times are estimates from its schedule. Lists are such as 1024,1408 or
1024:2048:256, both ends included. With --workdir, what has been compiled is kept, and the same
question with other shapes or another budget goes on from there. Exit status 1 if no shape fits.
"""

import dataclasses
import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh

from distill import config as configs
from distill.command.flags import define_config, define_path, parse, split_overrides
from distill.command.launch import launch
from distill.errors import RunFailed, UserError
from distill.estimate.plan import GIB, Job, plan_step, state_bytes
from distill.estimate.shape_log import ShapeLog
from distill.estimate.shapes import Found, Shape, ShapeGrid, ShapeSearch, diagonal
from distill.estimate.topology import Topology, open_topology
from distill.nn import count_flops
from distill.references import evaluated
from distill.report.shape_page import write_shape_report
from distill.report.shapes import shape_figures, shape_table
from distill.train.progress import say
from distill.train.run import blame, check_batch
from pipelines.plan import make_job
from pipelines.pretrain import PretrainConfig
from students import vit
from teachers import vit_g

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "vit_g14.py"
BASES = {name: Shape(**shape) for name, shape in (vit.SHAPES | vit_g.SHAPES).items()}
# Keys of the config that follow from the flags.
DECIDED = {
    "model.variant": "--patch",
    "model.width": "--widths",
    "model.depth": "--depths",
    "model.mlp_dim": "--mlp_ratios",
    "model.heads": "--head_dims",
    "train.batch_size": "--batch",
}

FLAGS = flags.FlagValues()
define_config(FLAGS, f"{CONFIG}:g/14")
flags.DEFINE_string("topology", "v5e:1x1", "TPU slice, such as v4:2x2x1.", flag_values=FLAGS)
flags.DEFINE_integer("patch", 14, "Side of a patch in pixels.", 1, flag_values=FLAGS)
flags.DEFINE_integer("batch", 64, "Images a chip and step.", 1, flag_values=FLAGS)
flags.DEFINE_float(
    "memory", None, "GiB of a chip to stay within; all it has if not given.", flag_values=FLAGS
)
flags.DEFINE_string("widths", None, "Widths to try.", flag_values=FLAGS)
flags.DEFINE_string("depths", None, "Depths to try.", flag_values=FLAGS)
flags.DEFINE_string("mlp_ratios", "4", "MLP over width, such as 2,4.", flag_values=FLAGS)
flags.DEFINE_string("head_dims", "64", "Features of a head: width over heads.", flag_values=FLAGS)
flags.DEFINE_string(
    "base", "S", "Shape to scale along the diagonal, such as B; none does not.", flag_values=FLAGS
)
flags.DEFINE_bool("json", False, "Print JSON instead of a table.", flag_values=FLAGS)
define_path("report", "HTML file to write, with a picture.", FLAGS)
define_path("workdir", "Directory that keeps what was compiled.", FLAGS)


def load_config(spec: str, overrides: dict[str, str], patch: int, batch: int) -> PretrainConfig:
    """The config whose model takes the shapes.

    Args:
      spec: of the file.
      overrides: of its keys.
      patch: side of a patch in pixels.
      batch: global.

    Raises:
      UserError: if overrides say what the search decides, or the config is wrong.
    """
    for key in sorted(overrides.keys() & DECIDED.keys()):
        raise UserError(f"--config.{key} is what the search decides; use {DECIDED[key]}")
    tree = configs.load_file(spec)
    letter = str(evaluated(tree, []).get("model", {}).get("variant", "")).partition("/")[0]
    decided = {"model.variant": f"{letter}/{patch}", "train.batch_size": str(batch)}
    # One replica over all chips, unless the command line says otherwise.
    mesh = {"mesh.data": "1", "mesh.fsdp": "-1"}
    return configs.resolve(PretrainConfig, tree, mesh | overrides | decided)


def shaped(config: PretrainConfig, shape: Shape) -> PretrainConfig:
    """The config with a model of this shape."""
    with blame("config.model"):
        return dataclasses.replace(
            config, model=dataclasses.replace(config.model, **dataclasses.asdict(shape))
        )


def make_shape_job(config: PretrainConfig, shape: Shape, mesh: Mesh) -> Job:
    """What training a model of this shape would compile."""
    # The schedule's length changes nothing but constants.
    return make_job(shaped(config, shape), mesh, steps=None)


def compile_shape(config: PretrainConfig, shape: Shape, topology: Topology, mesh: Mesh) -> Found:
    """Plans the training step of a model of this shape."""
    job = make_shape_job(config, shape, mesh)
    plan = plan_step(job, topology, mesh)
    network = job.network.with_attention("plain")
    image = jax.ShapeDtypeStruct((1, *network.config.image_shape), "float32")
    return Found(
        shape=shape,
        parameters=network.parameter_count(),
        flops=count_flops(network.apply, network.abstract_params, image).total,
        bytes_per_chip=plan.memory.total,
        step_seconds=plan.cost.seconds if plan.cost else None,
        images_per_second=plan.images_per_second if plan.cost else None,
        mfu=plan.mfu if plan.cost else None,
        unestimated_kernels=plan.unestimated_kernels,
        compile_seconds=plan.compile_seconds,
    )


def numbers(flag: str, text: str, kind: type = int) -> tuple:
    """The numbers that a flag lists, such as 1024,1408 or 1024:2048:256 (both ends included).

    Raises:
      UserError: for anything else.
    """
    found = []
    for item in text.split(","):
        ends = re.fullmatch(r"(\d+):(\d+):([1-9]\d*)", item)
        if ends and kind is int:
            first, last, step = map(int, ends.groups())
            found += range(first, last + 1, step)
        elif re.fullmatch(r"\d+" if kind is int else r"\d+(\.\d+)?", item):
            found.append(kind(item))
        else:
            example = "1024,1408 or 1024:2048:256" if kind is int else "2,4"
            raise UserError(f"--{flag} has {item!r}; expected numbers such as {example}")
    return tuple(found)


def make_grid(tile: int) -> ShapeGrid:
    """The shapes that the flags ask for."""
    try:
        return ShapeGrid(
            widths=numbers("widths", FLAGS.widths),
            depths=numbers("depths", FLAGS.depths),
            mlp_ratios=numbers("mlp_ratios", FLAGS.mlp_ratios, float),
            head_dims=numbers("head_dims", FLAGS.head_dims),
            tile=tile,
        )
    except ValueError as error:
        raise UserError(f"--widths, --depths, --mlp_ratios, --head_dims: {error}") from error


def budget_bytes(topology: Topology) -> int:
    """The bytes of a chip that shapes have to stay within."""
    if FLAGS.memory is None:
        return topology.hbm_bytes
    most = topology.hbm_bytes / GIB
    if not 0 < FLAGS.memory <= most:
        raise UserError(
            f"--memory={FLAGS.memory} must be above 0 and at most {most:.2f}, the GiB that a chip "
            f"of {topology.name} offers to a program"
        )
    return int(FLAGS.memory * GIB)


def _base() -> Shape | None:
    if FLAGS.base == "none":
        return None
    if FLAGS.base not in BASES:
        raise UserError(f"--base={FLAGS.base!r} must be none or one of {', '.join(BASES)}")
    return BASES[FLAGS.base]


def _report_file() -> Path | None:
    """Where the page will go, tried before anybody waits for it."""
    if FLAGS.report is None:
        return None
    file = Path(FLAGS.report)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
    except OSError as error:
        raise UserError(f"--report: cannot write {file}: {error.strerror}") from error
    return file


def describe(config: PretrainConfig, topology: Topology) -> dict[str, Any]:
    """What is compiled for what, as JSON has it."""
    libtpu = " ".join(topology.devices[0].client.platform_version.split())
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "patch_size": FLAGS.patch,
        "image_size": config.model.image_size,
        "batch_per_chip": FLAGS.batch,
        "optimizer": config.optimizer.name,
        "remat": config.model.remat,
        "jax": jax.__version__,
        "libtpu": libtpu,
    }


def open_search(
    config: PretrainConfig, topology: Topology, mesh: Mesh, budget: int, log: ShapeLog
) -> ShapeSearch:
    """The search over shapes of a config's model, which goes on from what is in the log."""
    return ShapeSearch(
        lambda shape: log.add(compile_shape(config, shape, topology, mesh)),
        lambda shape: state_bytes(make_shape_job(config, shape, mesh)),
        budget,
        known=log.found,
        starting=log.announce,
    )


def main(arguments: list[str]) -> None:
    """Searches the shapes that the flags ask for."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("widths", "depths"))
    base, report, topology = _base(), _report_file(), open_topology(FLAGS.topology)
    budget, tile = budget_bytes(topology), topology.chip.matrix_unit
    columns = make_grid(tile).columns()
    config = load_config(FLAGS.config, overrides, FLAGS.patch, FLAGS.batch * topology.chips)
    with blame("config.mesh"):
        mesh = topology.mesh(config.mesh)
    check_batch(config, mesh)
    for column in columns:
        shaped(config, column[0])
    question, resolved = describe(config, topology), configs.to_dict(config)
    compiler = {key: question[key] for key in ("topology", "jax", "libtpu")}
    complete = functools.partial(configs.with_defaults, config)
    log = ShapeLog(FLAGS.workdir, resolved | compiler, complete)
    search = open_search(config, topology, mesh, budget, log)
    scaled = search.within_budget(diagonal(base, tile)) if base else ()
    search.run([scaled, *columns])
    grid = [shape for column in columns for shape in column]
    figures = shape_figures(question, search, grid, scaled, base)
    print(json.dumps(figures, indent=1) if FLAGS.json else shape_table(figures))
    if report:
        write_shape_report(report, figures, json.dumps(resolved, indent=1))
        say(f"report: {report}")
    sys.stdout.flush()
    if not any(one["fits"] for one in figures["shapes"]):
        raise RunFailed(
            f"no shape fits into {budget / GIB:.2f} GiB a chip: try smaller shapes or --batch, "
            "config.model.remat=full or a larger slice"
        )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
