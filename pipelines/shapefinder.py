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

import functools
import json
import sys
from pathlib import Path

from absl import flags

from distill import config as configs
from distill.bounds import BatchSize, Depth, Gibibytes, Side, Weight, Width
from distill.command.flags import (
    check_writable,
    define_config,
    define_number,
    define_path,
    define_price,
    number_list,
    parse,
    split_overrides,
)
from distill.command.launch import launch
from distill.errors import RunFailed, UserError
from distill.estimate.plan import GIB
from distill.estimate.shape_jobs import COMPILER, describe, open_search, searched_config, shaped
from distill.estimate.shape_log import ShapeLog
from distill.estimate.shapes import Shape, ShapeGrid, diagonal
from distill.estimate.topology import Topology, open_topology
from distill.parallel.printed import say
from distill.report.shape_page import write_shape_report
from distill.report.shapes import shape_figures, shape_table
from distill.train.run import blame, check_batch
from students import vit
from teachers import vit_g

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "vit_g14.py"
BASES = {name: Shape(**shape) for name, shape in (vit.SHAPES | vit_g.SHAPES).items()}

FLAGS = flags.FlagValues()
define_config(FLAGS, f"{CONFIG}:g/14")
flags.DEFINE_string("topology", "v5e:1x1", "TPU slice, such as v4:2x2x1.", flag_values=FLAGS)
define_number("patch", "Side of a patch in pixels.", FLAGS, Side, 14)
define_number("batch", "Images a chip and step.", FLAGS, BatchSize, 64)
define_number("memory", "GiB of a chip to stay within; all it has if not given.", FLAGS, Gibibytes)
flags.DEFINE_string("widths", None, "Widths to try.", flag_values=FLAGS)
flags.DEFINE_string("depths", None, "Depths to try.", flag_values=FLAGS)
flags.DEFINE_string("mlp_ratios", "4", "MLP over width, such as 2,4.", flag_values=FLAGS)
flags.DEFINE_string("head_dims", "64", "Features of a head: width over heads.", flag_values=FLAGS)
flags.DEFINE_string(
    "base", "S", "Shape to scale along the diagonal, such as B; none does not.", flag_values=FLAGS
)
define_price(FLAGS)
flags.DEFINE_bool("json", False, "Print JSON instead of a table.", flag_values=FLAGS)
define_path("report", "HTML file to write, with a picture.", FLAGS)
define_path("workdir", "Directory that keeps what was compiled.", FLAGS)


def make_grid(tile: int) -> ShapeGrid:
    """The shapes that the flags ask for."""
    try:
        return ShapeGrid(
            widths=number_list("widths", FLAGS.widths, Width),
            depths=number_list("depths", FLAGS.depths, Depth),
            mlp_ratios=number_list("mlp_ratios", FLAGS.mlp_ratios, Weight),
            head_dims=number_list("head_dims", FLAGS.head_dims, Width),
            tile=tile,
        )
    except ValueError as error:
        raise UserError(f"--widths, --depths, --mlp_ratios, --head_dims: {error}") from error


def budget_bytes(topology: Topology) -> int:
    """The bytes of a chip that shapes have to stay within."""
    bytes_per_chip = topology.hbm_bytes * topology.chip.per_chip
    if FLAGS.memory is None:
        return bytes_per_chip
    most = bytes_per_chip / GIB
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


def main(arguments: list[str]) -> None:
    """Searches the shapes that the flags ask for."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("widths", "depths"))
    base, report = _base(), Path(FLAGS.report) if FLAGS.report else None
    check_writable("report", report)
    topology = open_topology(FLAGS.topology)
    budget, tile = budget_bytes(topology), topology.chip.matrix_unit or 1
    columns = make_grid(tile).columns()
    config = searched_config(FLAGS.config, overrides, FLAGS.patch, FLAGS.batch * topology.chips)
    with blame("config.mesh"):
        mesh = topology.mesh(config.mesh)
    check_batch(config, mesh)
    for column in columns:
        shaped(config, column[0])
    question, resolved = describe(config, topology, mesh, FLAGS.patch), configs.to_dict(config)
    compiler = {key: question[key] for key in COMPILER}
    complete = functools.partial(configs.with_defaults, config)
    log = ShapeLog(FLAGS.workdir, resolved | compiler, complete)
    search = open_search(config, topology, mesh, budget, log)
    scaled = search.within_budget(diagonal(base, tile)) if base else ()
    search.run([scaled, *columns])
    grid = [shape for column in columns for shape in column]
    figures = shape_figures(question, search, grid, scaled, base, FLAGS.price)
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
    launch(__doc__, FLAGS, main, keeps=False)
