r"""Measures how groups fare by a model's decisions, and what it costs to treat them alike.

  python pipelines/fairness.py --table=test.csv --score=p --target=y --group=s --held_out=val.csv
  python pipelines/fairness.py --table=all.csv --score=p --target=y --group=s --split_column=split
  python pipelines/fairness.py --table=predictions.npz --positive=Smiling --target=Smiling \
      --group=Male --attributes=list_attr_celeba.txt --partition=list_eval_partition.txt

Needs no model: a CSV of any program's scores, or a file of `distill predict`. Prints accuracy, true
and false positive rates of each group and the gaps between them, of the score, of the decision at
0.5, and of debiased decisions (arXiv 2106.12887), fitted to held-out cases; see docs/evaluation.md.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from distill.analysis.celeba import PARTITION, read_attributes, read_partition
from distill.analysis.debiasing import BIASES, DebiaserConfig, compare
from distill.analysis.fairness import Cases, cases_of_table
from distill.analysis.tables import Table, read_csv, read_table
from distill.bounds import Gamma, Share
from distill.command.flags import check_writable, define_number, define_path, number_list, parse
from distill.command.host import launch_host
from distill.errors import UserError
from distill.json_files import write_json
from distill.report.fairness_table import GAP_HEADER, GROUP_HEADER, gap_rows, group_rows
from distill.terminal import text_table

FLAGS = flags.FlagValues()
define_path(
    "table", "Cases to score: a CSV with a header, or predictions, .npz or .parquet.", FLAGS
)
flags.DEFINE_string("score", "score", "Column: the probability of 1.", flag_values=FLAGS)
flags.DEFINE_string("target", "label", "Column: 1 or 0, 1 or -1, true or false.", flag_values=FLAGS)
flags.DEFINE_string("group", None, "Column: the group of each case.", flag_values=FLAGS)
flags.DEFINE_string(
    "positive", None, "Of predictions, the class whose probability is the score.", flag_values=FLAGS
)
define_path("held_out", "Other cases to fit debiasers to, as --table.", FLAGS)
flags.DEFINE_string(
    "split_column", None, "Column that says which cases are held out.", flag_values=FLAGS
)
flags.DEFINE_string("fit_on", "validation", "The split that is held out.", flag_values=FLAGS)
flags.DEFINE_string("apply_to", "test", "The split that is scored.", flag_values=FLAGS)
define_path(
    "attributes",
    "More columns by image name: a CSV whose first column it is, or list_attr_celeba.txt.",
    FLAGS,
)
define_path("partition", "CelebA's list_eval_partition, for --split_column.", FLAGS)
flags.DEFINE_string("name", "name", "Column of image names for --attributes.", flag_values=FLAGS)
define_number(
    "gamma", "Span of 2p-1 over which decisions are by chance.", FLAGS, Gamma, DebiaserConfig.gamma
)
flags.DEFINE_string(
    "bias", ",".join(f"{bias:g}" for bias in BIASES), "Gaps to allow.", flag_values=FLAGS
)
define_number("rate", "Of 1 in all groups; the mean score if not given.", FLAGS, Share)
define_path("json", "File to write the figures to.", FLAGS)
define_path("html", "File to write a page with plots to.", FLAGS)


def _read(path: Path) -> Table:
    """The table at a path, with what --attributes and --partition say of its images."""
    table = read_table(path, FLAGS.positive)
    if FLAGS.attributes:
        more = Path(FLAGS.attributes)
        read = read_csv if more.suffix == ".csv" else read_attributes
        table = table.joined(read(more), FLAGS.name)
    if FLAGS.partition:
        table = table.joined(read_partition(Path(FLAGS.partition)), FLAGS.name)
    return table


def _tables() -> tuple[Table, Table | None]:
    """The cases to score, and those to fit to."""
    table = _read(Path(FLAGS.table))
    split = FLAGS.split_column or (PARTITION if FLAGS.partition else None)
    if split and FLAGS.held_out:
        raise UserError("give --held_out or a split (--split_column, --partition), not both")
    if split:
        scored = table.of_split(split, FLAGS.apply_to, "--apply_to")
        return scored, table.of_split(split, FLAGS.fit_on, "--fit_on")
    if FLAGS.held_out == FLAGS.table:
        raise UserError("--held_out is --table; a debiaser is fitted to other cases than it scores")
    return table, _read(Path(FLAGS.held_out)) if FLAGS.held_out else None


def _cases(columns: Mapping[str, str]) -> tuple[Cases, Cases | None]:
    """The cases to score, and those to fit to, by the names of their columns."""
    scored, fitted = _tables()
    if fitted is None:
        return cases_of_table(scored, **columns), None
    held_out = cases_of_table(fitted, **columns)
    return cases_of_table(scored, **columns, groups=held_out.groups), held_out


def main(arguments: list[str]) -> None:
    """Measures what the flags name."""
    parse(FLAGS, arguments, required=("table", "group"))
    check_writable("json", FLAGS.json and Path(FLAGS.json))
    check_writable("html", FLAGS.html and Path(FLAGS.html))
    biases = number_list("bias", FLAGS.bias, Share)
    columns = {"score": FLAGS.score, "target": FLAGS.target, "group": FLAGS.group}
    cases, held_out = _cases(columns)
    found = compare(cases, held_out, gamma=FLAGS.gamma, biases=biases, rate=FLAGS.rate)
    print(text_table(GROUP_HEADER, group_rows(found)), end="\n\n")
    print(text_table(GAP_HEADER, gap_rows(found)))
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if held_out is None:
        print(
            "nothing is debiased without other cases to fit to: --held_out or --split_column",
            file=sys.stderr,
        )
    about = {"table": cases.source, **columns}
    about["held_out_table"] = None if held_out is None else held_out.source
    if FLAGS.json:
        write_json(Path(FLAGS.json), {**about, **found.as_json()})
    if FLAGS.html:
        # Drawing takes a second to load.
        from distill.report.fairness import write_fairness_report

        write_fairness_report(Path(FLAGS.html), found, about)


if __name__ == "__main__":
    launch_host(__doc__, FLAGS, main)
