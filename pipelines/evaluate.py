r"""Evaluates a trained model.

  python pipelines/evaluate.py --workdir=runs/student [--split=test] [--source=folder:PATH] [--best]

Prints accuracy, top-5 accuracy, cross-entropy and calibration error; for a distilled student also
its agreement with its teacher. A line of evaluations.jsonl in the workdir keeps them.

  python pipelines/evaluate.py --workdir=runs/student --fewshot=1,5,10 --knn=20 --probe

Prints, instead, what classifiers on the model's frozen features reach, whatever classes the model
was trained on: few-shot linear regression, k nearest neighbours, and a linear probe.

  python pipelines/evaluate.py --weights=weights/dinov2-base --source=folder:PATH --knn=20

The same of published weights, before they teach. These flags are short forms of evaluations by
config, of which there may be several, as in config.evals of a training run:

  python pipelines/evaluate.py --workdir=runs/student --config=evaluate/transfer
  python pipelines/evaluate.py --predictions=student.npz \
      --config.evals.sure.kind=calibration
  python pipelines/evaluate.py --workdir=runs/student \
      --config.evals.pets.kind=split --config.evals.pets.source=folder:PATH
"""

from pathlib import Path

from absl import flags

from distill.buckets import send
from distill.command.evaluations import define_evaluations, read_evaluations
from distill.command.flags import check_writable, define_path, parse, split_overrides
from distill.command.launch import launch
from distill.command.models import define_model, define_reading, read_model
from distill.command.processes import define_process_flags, join
from distill.errors import UserError
from distill.parallel.distributed import is_primary
from distill.paths import in_bucket
from distill.runs.evaluated import FILE, EvaluateConfig, evaluate_predictions
from distill.runs.evaluated import evaluate as run

FLAGS = flags.FlagValues()
define_model(FLAGS, "to evaluate")
define_reading(FLAGS)
define_path(
    "predictions",
    "File that `distill predict` or another program has written, instead of a model.",
    FLAGS,
)
define_path(
    "output",
    "File that a line is added to for each evaluation; WORKDIR/evaluations.jsonl if not given.",
    FLAGS,
)
define_evaluations(FLAGS)
define_process_flags(FLAGS)


def main(arguments: list[str]) -> None:
    """Evaluates what the flags name."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest)
    join(FLAGS)
    evals, output = read_evaluations(FLAGS, overrides), Path(FLAGS.output) if FLAGS.output else None
    check_writable("output", output)
    if FLAGS.predictions:
        if FLAGS.workdir or FLAGS.weights:
            raise UserError("give a model, or --predictions of one\nSee --help")
        evaluate_predictions(Path(FLAGS.predictions), evals, output=output)
        return
    run(
        read_model(FLAGS),
        evals,
        batch_size=FLAGS.batch_size,
        best=FLAGS.best,
        data_dir=FLAGS.data_dir,
        max_corrupt_share=FLAGS.max_corrupt_share,
        output=output,
    )
    if FLAGS.workdir and not output and is_primary():
        if in_bucket(FLAGS.workdir):
            send(FLAGS.workdir, FILE)
        else:
            # Drawing takes a second to import, which whoever mistypes a flag need not wait for.
            from distill.report.run import refresh_run_report

            refresh_run_report(Path(FLAGS.workdir))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, schema=EvaluateConfig, batch="--batch_size")
