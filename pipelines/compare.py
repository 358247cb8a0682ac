r"""Evaluates several models alike, and writes what they retain of the first one.

  distill compare runs/demo/teacher runs/demo/student runs/demo/labels_only \
      --config=evaluate/digits --output=runs/compared
  distill compare teacher=weights/dinov2-base student=runs/student other=predictions.npz \
      --config.evals.calibration.kind=calibration --config.evals.calibration.source=folder:PATH

A model is a run's workdir, published weights or a file of predictions, and is called as the last
part of its path or by what stands before `=`. --output gets compare.html and compare.json. What was
computed before for the same checkpoint, images and settings is not computed again.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from distill.command.evaluations import read_config_evaluations
from distill.command.flags import (
    define_config,
    define_path,
    parse_some,
    split_overrides,
)
from distill.command.launch import launch
from distill.command.models import define_pairs, define_reading, read_pairs
from distill.command.processes import define_process_flags, join
from distill.errors import UserError
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.report.compared import rows, warnings, write_comparison
from distill.runs.compared import compare as run
from distill.runs.compared import named_models
from distill.runs.evaluated import EvaluateConfig
from distill.terminal import text_table

FLAGS = flags.FlagValues()
# Models may stand before flags and after them.
FLAGS.set_gnu_getopt(True)
define_config(FLAGS)
define_path("output", "Directory for compare.html and compare.json.", FLAGS, "compared")
define_reading(FLAGS)
define_pairs(FLAGS)
define_process_flags(FLAGS)


def main(arguments: list[str]) -> None:
    """Compares the models that the arguments name."""
    overrides, rest = split_overrides(arguments)
    models = named_models(parse_some(FLAGS, rest))
    if not models:
        raise UserError("give models: distill compare TEACHER STUDENT … --config=FILE\nSee --help")
    join(FLAGS)
    if len(models) == 1:
        say("there is one model, which is compared with nothing: distill compare TEACHER STUDENT …")
    output = Path(FLAGS.output)
    result = run(
        models,
        read_config_evaluations(FLAGS, overrides),
        output,
        batch_size=FLAGS.batch_size,
        data_dir=FLAGS.data_dir,
        max_corrupt_share=FLAGS.max_corrupt_share,
        of_pairs=read_pairs(FLAGS),
    )
    if distributed.is_primary():
        header, lines = rows(result)
        print(text_table(header, [_on_a_line(line) for line in lines]))
        for text in warnings(result):
            print(text)
        print(f"\n{write_comparison(result, output)}")


def _on_a_line(cells: Sequence[str]) -> list[str]:
    """A row for a terminal: what is small on the page stands in brackets."""
    return [re.sub(r"\n(.*) to (.*)", r" [\1, \2]", cell) for cell in cells]


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, schema=EvaluateConfig, batch="--batch_size")
