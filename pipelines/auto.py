r"""A student from images and a teacher, in one line: everything else is chosen, and said.

  distill auto DATA --teacher=WEIGHTS_OR_RUN [--student=S/16] [--budget=30m] [--out=DIR] [--dry_run]

DATA is a folder of images, root/split/class/image, root/class/image or without classes, or a
source such as wds:PATH. The teacher is published weights (a directory as Hugging Face or timm
publish them, .safetensors, .npz) or the workdir of a run; without one, a model is pre-trained. A
budget is a time (30m, 2h), or 20epochs, 50000images, 800steps.

Splits, losses, the student, batch and length are chosen, the last two by compiling and timing real
steps here. OUT/config.py says all of it and why; --dry_run stops there. Then the student is
trained, measured beside its teacher and exported. The same line goes on where it was interrupted,
by the config that was written. --config.a.b=value is laid over what is chosen: the keys are those
of `distill distill_student --help`, without a teacher of `distill pretrain --help`.
"""

from collections.abc import Mapping
from pathlib import Path

from absl import flags

from distill.auto.choose import Chosen, choose
from distill.auto.finish import conclude, export, measure
from distill.auto.request import Request, absolute, check_out, default_out
from distill.command.flags import define_path, define_verbose, parse_some, split_overrides
from distill.command.launch import launch
from distill.errors import UserError
from distill.parallel.printed import say, verbose
from distill.runs.distillation import DistillConfig
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "teacher",
    None,
    "Published weights, a file or directory on this machine, or the workdir of a run.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "student", None, "Shape and patch size, such as S/16; None takes one that suits the teacher.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
    "budget",
    None,
    "30m, 2h, 20epochs, 50000images or 800steps; if not given, 30 minutes, and at most 300 epochs "
    "(200 without a teacher).",
    flag_values=FLAGS,
)
define_verbose(FLAGS)
define_path("out", "Of everything; runs/DATA-from-TEACHER if not given.", FLAGS)
flags.DEFINE_bool("dry_run", False, "Chooses, writes the config and stops.", flag_values=FLAGS)


def run(
    data: str,
    teacher: str | None = None,
    student: str | None = None,
    budget: str | None = None,
    out: Path | None = None,
    *,
    dry_run: bool = False,
    overrides: Mapping[str, str] | None = None,
) -> Chosen:
    """Chooses a run, trains, measures and exports it; goes on where it was interrupted.

    Args:
      data: a path, or a source's name.
      teacher: a path; None pre-trains.
      student: a variant such as `S/16`; None chooses one.
      budget: see `distill.auto.budget.read_budget`; None chooses one.
      out: directory of everything; None names one.
      dry_run: whether to stop when the config is written.
      overrides: keys of the config, with what the user has for them.

    Raises:
      UserError: for whatever of it cannot be.
    """
    request = Request(
        data=absolute(data),
        teacher=None if teacher is None else absolute(teacher),
        student=student,
        budget=budget,
        overrides=overrides or {},
    )
    place = out or default_out(request)
    check_out(request, place)
    chosen = choose(request, place)
    if dry_run:
        say(f"auto: train it with {request.line(chosen.out)}")
        return chosen
    workdir = Workdir(chosen.out)
    if isinstance(chosen.config, DistillConfig):
        distill_student.run(chosen.config, workdir, "student")
    else:
        pretrain.run(chosen.config, workdir, "model")
    measured = measure(chosen)
    export(chosen)
    # Drawing takes a second to import, which whoever mistypes a flag need not wait for.
    from distill.report.run import refresh_run_report

    refresh_run_report(chosen.out)
    conclude(chosen, measured)
    return chosen


def main(arguments: list[str]) -> None:
    """Runs what the line says."""
    overrides, rest = split_overrides(arguments)
    data = parse_some(FLAGS, rest)
    if len(data) != 1:
        found = f"there are {len(data)}: {', '.join(data)}" if data else "there is none"
        raise UserError(
            f"expected one DATA, and {found}: distill auto FOLDER --teacher=WEIGHTS\nSee --help"
        )
    with verbose(FLAGS.verbose):
        run(
            data[0],
            FLAGS.teacher,
            FLAGS.student,
            FLAGS.budget,
            Path(FLAGS.out) if FLAGS.out else None,
            dry_run=FLAGS.dry_run,
            overrides=overrides,
        )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, outlives_output=True)
