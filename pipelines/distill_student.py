r"""Distils a student from a teacher by function matching.

  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.teacher.workdir=runs/teacher

The student learns to be the teacher's function on the same crops and mixtures (arXiv 2106.05237);
labels are only logged. Running the same command again resumes.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from distill.evaluate import Evaluator, classification_metrics
from distill.matching.distillation import FunctionMatching, MatchingConfig, distillation_metrics
from distill.parallel import Rules, override_rules
from distill.train.fit import Trained, evaluation_loader, fit
from distill.train.progress import say
from distill.train.run import RunConfig, blame, open_mesh, plan
from distill.train.workdir import Workdir
from pipelines.launch import launch_training
from pipelines.models import ModelConfig, load_model
from pipelines.story import finish, introduce


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Whose function the student matches."""

    workdir: str
    """Of the run that trained the teacher."""
    step: int | None = None
    """Of the teacher's checkpoint; None takes the last of a run that is complete, which pins it."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the teacher's parameters and activations; None keeps the dtype of its run."""
    rules: Rules = ()
    """(logical axis, mesh axes) pairs: where the teacher's arrays live, as config.mesh.rules says
    it of the student's."""
    model: ModelConfig | None = None
    """What the workdir is expected to hold; None takes what is there."""

    def __post_init__(self):
        override_rules(self.rules)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(RunConfig):
    """Everything a distillation run depends on."""

    model: ModelConfig
    """The student."""
    teacher: TeacherConfig
    matching: MatchingConfig = MatchingConfig()


def run(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> Trained:
    """Trains a student to match its teacher and writes its workdir."""
    mesh = open_mesh(config)
    student = config.model.network().placed(mesh, config.mesh.table)
    splits = config.data.open_splits(channels=config.model.channels)
    splits.check_classes(config.model.num_classes, "config.model")
    plan(config, student, splits)
    teacher, teacher_params = load_model(
        Path(config.teacher.workdir),
        mesh,
        step=config.teacher.step,
        dtype=config.teacher.dtype,
        rules=config.teacher.rules,
        expected=config.teacher.model,
    )
    with blame("config.teacher.model"):
        teacher.check(config.train.batch_size)
    splits.check_classes(teacher.config.num_classes, f"the teacher in {config.teacher.workdir}")
    view_size = max(*student.config.image_shape[:2], *teacher.config.image_shape[:2])
    introduce(name, student, splits, mesh, overview)

    if splits.validation:
        batches = evaluation_loader(config, splits.validation, mesh, view_size)
        score = Evaluator("teacher", batches, classification_metrics(teacher))(teacher_params)
        say(f"{name}: teacher accuracy {score['teacher/accuracy']:.2%} on validation")

    trained = fit(
        name,
        config,
        workdir,
        mesh=mesh,
        network=student,
        task=FunctionMatching(student, teacher, config.matching),
        frozen=teacher_params,
        splits=splits,
        view_size=view_size,
        per_example=distillation_metrics(student, teacher),
    )
    return finish(name, trained, workdir)


if __name__ == "__main__":
    launch_training(__doc__, DistillConfig, run)
