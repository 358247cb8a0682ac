r"""Distils students from teachers by function matching.

  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.teacher.workdir=runs/teacher

A student learns to be the teacher's function on the same crops and mixtures (arXiv 2106.05237);
unless config.matching says otherwise, labels are only logged. Several teachers (config.teachers)
are weighted; several students (config.students) are taught by one pass of the teachers, each in a
directory of the workdir that is the workdir of its run alone. Running the same command again
resumes.
"""

import dataclasses

from distill.data import Splits
from distill.evaluate import Evaluator, classification_metrics
from distill.evaluate.chance import warn_if_near_chance
from distill.matching.config import MatchingConfig
from distill.matching.distillation import FunctionMatching, Teacher, distillation_metrics, projected
from distill.nn import Network, Params
from distill.optim import OptimizerConfig, ScheduleConfig
from distill.train.fit import Trained, Trainee, evaluation_loader, fit
from distill.train.progress import say
from distill.train.run import RunConfig, blame, open_mesh, plan
from distill.train.workdir import Workdir
from pipelines.launch import launch_training
from pipelines.models import ModelConfig
from pipelines.story import finish, introduce
from pipelines.teacher_models import TEACHER, TeacherConfig, load_teachers


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """One of several students."""

    model: ModelConfig
    learning_rate: float | None = None
    """With the rest of the run's optimizer; None takes the run's."""
    optimizer: OptimizerConfig | None = None
    """In place of the run's, of which nothing is taken over; None takes the run's."""
    schedule: ScheduleConfig | None = None
    """In place of the run's, of which nothing is taken over; None takes the run's."""

    def __post_init__(self):
        if self.learning_rate is not None and self.optimizer is not None:
            raise ValueError("give learning_rate or optimizer, which has a learning rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(RunConfig):
    """Everything a distillation run depends on.

    Raises:
      ValueError: unless there is one teacher or several by name, and one student or several.
    """

    model: ModelConfig | None = None
    """The student."""
    students: dict[str, StudentConfig] = dataclasses.field(default_factory=dict)
    """Several students, by name, in place of `model`."""
    teacher: TeacherConfig | None = None
    teachers: dict[str, TeacherConfig] = dataclasses.field(default_factory=dict)
    """Several teachers, by name, in place of `teacher`."""
    matching: MatchingConfig = MatchingConfig()

    def __post_init__(self):
        super().__post_init__()
        if (self.teacher is None) == (not self.teachers):
            raise ValueError(
                "give teacher, or several teachers by name; teacher.workdir says where"
            )
        if (self.model is None) == (not self.students):
            raise ValueError("give model, the student, or several students by name")
        if self.students and self.branch_from:
            raise ValueError("branch off a single student; each has a workdir of its own")

    @property
    def every_teacher(self) -> dict[str, TeacherConfig]:
        """All teachers by name."""
        return self.teachers or {TEACHER: self.teacher}

    @property
    def alone(self) -> dict[str, "DistillConfig"]:
        """What each of several students would be distilled with alone, by name."""
        found = {}
        for name, student in self.students.items():
            optimizer = student.optimizer or self.optimizer
            if student.learning_rate is not None:
                optimizer = dataclasses.replace(optimizer, learning_rate=student.learning_rate)
            found[name] = dataclasses.replace(
                self,
                students={},
                model=student.model,
                optimizer=optimizer,
                schedule=student.schedule or self.schedule,
            )
        return found


def run(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> Trained:
    """Trains a student to match its teachers and writes its workdir."""
    return _run({name: (config, workdir)}, name, overview)[name]


def run_all(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> dict[str, Trained]:
    """Trains one student or several, each in a directory of its own; returns them by name."""
    if not config.students:
        return {name: run(config, workdir, name, overview=overview)}
    alone = {
        student: (one, Workdir(workdir.path / student)) for student, one in config.alone.items()
    }
    return _run(alone, name, overview)


def _run(
    runs: dict[str, tuple[DistillConfig, Workdir]], name: str, overview: bool
) -> dict[str, Trained]:
    config = next(iter(runs.values()))[0]
    mesh = open_mesh(config)
    students = {
        key: one.model.network().placed(mesh, one.mesh.table) for key, (one, _) in runs.items()
    }
    splits = _open_splits(config, students)
    for key, (one, _) in runs.items():
        plan(one, students[key], splits)
    teachers, params = load_teachers(config.every_teacher, mesh)
    trainees = {
        key: _trainee(one, directory, students[key], teachers, splits)
        for key, (one, directory) in runs.items()
    }
    networks = (*students.values(), *(teacher.network for teacher in teachers.values()))
    view_size = max(side for network in networks for side in network.config.image_shape[:2])
    for key, student in students.items():
        introduce(key, student, splits, mesh, overview)
    _introduce_teachers(config, name, teachers, params, splits, view_size)
    trained = fit(
        name,
        trainees,
        mesh=mesh,
        splits=splits,
        view_size=view_size,
        frozen=params,
        teacher_view=config.matching.teacher_view,
    )
    return {key: finish(key, one, runs[key][1]) for key, one in trained.items()}


def _open_splits(config: DistillConfig, students: dict[str, Network]) -> Splits:
    """The images, which must have as many channels and classes as every student."""
    channels = {student.config.channels for student in students.values()}
    with blame("config.students"):
        if len(channels) > 1:
            raise ValueError(f"students take images of {sorted(channels)} channels; give them one")
    splits = config.data.open_splits(channels=channels.pop())
    for student in students.values():
        splits.check_classes(student.config.num_classes, "config.model")
    if config.matching.losses.labels:
        splits.check_labels("config.matching.losses.labels")
    return splits


def _trainee(
    config: DistillConfig,
    workdir: Workdir,
    student: Network,
    teachers: dict[str, Teacher],
    splits: Splits,
) -> Trainee:
    matching, classes = config.matching, student.config.num_classes
    with blame("config.teacher.model"):
        for name, teacher in teachers.items():
            teacher.network.check(config.train.batch_size)
            whose = f"the teacher in {config.every_teacher[name].workdir}"
            matching.check_teacher(whose, teacher.network.config.num_classes, classes)
    student = projected(student, teachers, matching)
    labelled = bool(splits.train.class_names)
    return Trainee(
        config=config,
        workdir=workdir,
        network=student,
        task=FunctionMatching(student, teachers, matching, labelled=labelled),
        per_example=distillation_metrics(student, teachers),
        view_metrics=distillation_metrics(student, teachers, mixed=matching, labelled=labelled),
    )


def _introduce_teachers(
    config: DistillConfig,
    name: str,
    teachers: dict[str, Teacher],
    params: dict[str, Params],
    splits: Splits,
    view_size: int,
) -> None:
    """Says how good the teachers are on the images at hand."""
    if splits.validation is None:
        return
    images = splits.validation
    mesh = next(iter(teachers.values())).network.placement.mesh
    for key, teacher in teachers.items():
        if teacher.network.config.num_classes != len(images.class_names):
            continue
        batches = evaluation_loader(config, images, mesh, view_size)
        per_example = classification_metrics(teacher.network)
        accuracy = Evaluator(key, batches, per_example)(params[key])[f"{key}/accuracy"]
        whose = "teacher" if key == TEACHER else f"teacher {key}"
        say(f"{name}: {whose} accuracy {accuracy:.2%} on validation")
        if warning := warn_if_near_chance(accuracy, len(images.class_names), len(images)):
            say(f"{name}: warning: {whose}: {warning}")


if __name__ == "__main__":
    launch_training(__doc__, DistillConfig, run_all)
