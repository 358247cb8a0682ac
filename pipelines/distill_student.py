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
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax

from distill.command.launch import launch_training
from distill.data import Splits, Store
from distill.data.classes import Names, all_chosen, name_classes
from distill.data.examples import STORED
from distill.errors import UserError
from distill.evaluate.distillation import distillation_metrics
from distill.nn import Network
from distill.optim import OptimizerConfig, ScheduleConfig
from distill.paths import LocalPath
from distill.runs.models import ModelConfig
from distill.runs.start import StartConfig, kept_classes, starting_params
from distill.runs.stored_teachers import (
    check_store,
    describe_teachers,
    stored_scores,
    stored_teachers,
)
from distill.runs.story import finish, introduce
from distill.runs.student_classes import count_classes
from distill.runs.teachers import (
    TEACHER,
    TeacherConfig,
    fingerprints,
    load_teachers,
    match_classes,
    say_scores,
    say_views,
    score,
    shown_as,
)
from distill.subject import Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching, mix_views, projected
from distill.train.fit import Trained, Trainee, fit
from distill.train.run import RunConfig, blame, open_mesh, plan
from distill.train.train_log import train_log
from distill.train.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """One of several students."""

    model: ModelConfig
    start: StartConfig | None = None
    """A trained model to start from; None starts from nothing."""
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
    start: StartConfig | None = None
    """A trained model for the student to start from; None starts from nothing."""
    teacher: TeacherConfig | None = None
    teachers: dict[str, TeacherConfig] = dataclasses.field(default_factory=dict)
    """Several teachers, by name, in place of `teacher`."""
    targets: LocalPath | None = None
    """Directory that pipelines/store_targets.py wrote, to replay in place of asking teachers. With
    `teacher` or `teachers`, they must be the ones that were asked; without, the store knows."""
    matching: MatchingConfig = MatchingConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.teacher is not None and self.teachers:
            raise ValueError("give teacher, or several teachers by name, not both")
        if self.teacher is None and not self.teachers and self.targets is None:
            raise ValueError(
                "give teacher, several teachers by name, or stored targets; teacher.workdir or "
                "teacher.weights.path says where"
            )
        if (self.model is None) == (not self.students):
            raise ValueError("give model, the student, or several students by name")
        if self.students and self.branch_from:
            raise ValueError("branch off a single student; each has a workdir of its own")
        if self.students and self.start:
            raise ValueError("each of several students has a start of its own, students.NAME.start")
        for student in self.alone.values() if self.students else (self,):
            student.check_classifier()

    def check_classifier(self) -> None:
        """Checks that something teaches the student's classifier, if it has one.

        Raises:
          ValueError: if nothing does.
        """
        losses, start = self.matching.losses, self.start
        trained = losses.labels or "logits" in losses.features
        kept = start is not None and start.classifier == "keep"
        if self.model.num_classes and not trained and not kept:
            raise ValueError(
                f"no term of matching.losses ({', '.join(losses.terms)}) teaches the student's "
                f"classifier of {self.model.num_classes} classes; set model.num_classes=0 for a "
                "student without one, or give kl, another term on logits, or labels a weight"
            )

    @property
    def every_teacher(self) -> dict[str, TeacherConfig]:
        """All teachers by name; none where only what they said is given."""
        return self.teachers or ({TEACHER: self.teacher} if self.teacher else {})

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """Those of all students."""
        several = tuple(student.model for student in self.students.values())
        return several or (self.model,)

    def with_classes(self, splits: Splits, store: Store | None = None) -> "DistillConfig":
        """The config with students of as many classes as there are, where it says no number.

        Raises:
          UserError: if nothing says how many, or nothing teaches the classifier.
        """
        if all(model.num_classes is not None for model in self.models):
            return self
        count = count_classes(splits, self.every_teacher, self.start, store)
        students = {
            name: dataclasses.replace(one, model=one.model.with_classes(count))
            for name, one in self.students.items()
        }
        with blame("config"):
            return dataclasses.replace(
                self, model=self.model and self.model.with_classes(count), students=students
            )

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
                start=student.start,
                optimizer=optimizer,
                schedule=student.schedule or self.schedule,
            )
        return found


def run(
    config: DistillConfig, workdir: Workdir, name: str = "distill", *, overview: bool = True
) -> Trained:
    """Trains a student to match its teachers and writes its workdir."""
    with train_log(workdir):
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
    with train_log(*(directory for _, directory in alone.values())):
        return _run(alone, name, overview)


def _run(
    runs: dict[str, tuple[DistillConfig, Workdir]], name: str, overview: bool
) -> dict[str, Trained]:
    config = next(iter(runs.values()))[0]
    mesh = open_mesh(config)
    splits = open_splits(config, [one.model for one, _ in runs.values()])
    store = None if config.targets is None else Store(Path(config.targets))
    runs = {key: (one.with_classes(splits, store), path) for key, (one, path) in runs.items()}
    config = next(iter(runs.values()))[0]
    students = {
        key: one.model.network().placed(mesh, one.mesh.table) for key, (one, _) in runs.items()
    }
    for key, (one, _) in runs.items():
        plan(one, students[key], splits)
    starts = [one.start for one, _ in runs.values()]
    if store is None:
        teachers, params = load_teachers(config.every_teacher, mesh)
        names, splits, teachers = agree_on_classes(config, students, splits, teachers, starts)
        named = config.every_teacher
        known = describe_teachers(named, teachers, fingerprints(named, params))
    else:
        teachers, params = stored_teachers(store, config.every_teacher, mesh), {}
        names, splits, _ = agree_on_classes(config, students, splits, teachers, starts, store)
        known = store.contents.about["teachers"]
    runs = {key: (shown_as(one, teachers), workdir) for key, (one, workdir) in runs.items()}
    config, size = next(iter(runs.values()))[0], view_size(students, teachers)
    if store is not None:
        check_store(store, config, config.matching, splits, size)
    trainees = {
        key: dataclasses.replace(
            _trainee(one, directory, students[key], teachers, splits, stored=store is not None),
            section="model" if key == name else f"students.{key}.model",
            teachers=known,
            class_names=names if students[key].config.num_classes else (),
        )
        for key, (one, directory) in runs.items()
    }
    for key, student in students.items():
        introduce(key, student, splits, mesh, overview)
    if store is None:
        say_views(name, teachers, config)
        say_scores(name, score(config, teachers, params, splits), splits)
    else:
        say_scores(name, stored_scores(store), splits, stored=True)
    trained = fit(
        name,
        trainees,
        mesh=mesh,
        splits=splits,
        view_size=size,
        frozen=params,
        teacher_view=config.matching.teacher_view,
        store=store,
    )
    return {key: finish(key, one, runs[key][1]) for key, one in trained.items()}


def view_size(students: Mapping[str, Network], teachers: Mapping[str, Teacher]) -> int:
    """Side of views that no model has to enlarge."""
    networks = (*students.values(), *(teacher.network for teacher in teachers.values()))
    return max(side for network in networks for side in network.config.image_shape[:2])


def open_splits(config: DistillConfig, students: Iterable[ModelConfig]) -> Splits:
    """The images, which must have as many channels and classes as every student."""
    students = tuple(students)
    channels = {student.channels for student in students}
    with blame("config.students"):
        if len(channels) > 1:
            raise ValueError(f"students take images of {sorted(channels)} channels; give them one")
    splits = config.data.open_splits(channels=channels.pop())
    if config.matching.losses.labels:
        if any(student.num_classes == 0 for student in students):
            raise UserError("config.matching.losses.labels needs a student with classes")
        splits.check_all_labelled("config.matching.losses.labels")
    return splits


def agree_on_classes(
    config: DistillConfig,
    students: Mapping[str, Network],
    splits: Splits,
    teachers: Mapping[str, Teacher],
    starts: Iterable[StartConfig | None] = (),
    store: Store | None = None,
) -> tuple[Names, Splits, dict[str, Teacher]]:
    """Names the students' classes, and puts those of images and teachers in their order.

    They are the classes of the images to train on, or where these have none, or others, those of a
    classifier that is kept, of a teacher, or of the images to evaluate on.

    Args:
      config: of the run.
      students: by name.
      splits: the images.
      teachers: by name.
      starts: trained models that students start from.
      store: of what the teachers said, if they are not there; of its classes.

    Returns:
      The names, empty where nothing says them or no student has classes; the images; the teachers.

    Raises:
      UserError: if students, images and teachers that are to be compared do not have the same.
    """
    counts = {student.config.num_classes for student in students.values()} - {0}
    if len(counts) > 1:
        raise UserError(
            f"students have {' and '.join(map(str, sorted(counts)))} classes; they see the same "
            "images and need the same classes"
        )
    # One that has none learns embeddings or tokens, whatever the images show.
    if not counts:
        return (), splits, match_classes(teachers, (), compared=False, in_order=False)
    stored = () if store is None else tuple(store.contents.about.get("classes") or ())
    names = name_classes(
        "config.model",
        *counts,
        stored,
        splits.train.class_names,
        *(kept_classes(start, *counts) for start in starts),
        *(teacher.class_names for teacher in teachers.values()),
        splits.class_names,
        by="its data and teachers name",
    )
    features = config.matching.losses.features
    in_order = config.data.in_order or any(map(all_chosen, splits.opened.values()))
    return (
        names,
        splits.numbered(names, "the student", in_order=in_order) if names else splits,
        match_classes(teachers, names, compared="logits" in features, in_order=in_order),
    )


def check_teachers(
    config: DistillConfig, student: Network, teachers: Mapping[str, Teacher]
) -> None:
    """Checks that teachers see what the student sees and have what its loss compares.

    Raises:
      ConfigError: if they have not.
    """
    classes, channels = student.config.num_classes, student.config.channels
    with blame("config.targets" if config.targets else "config.teacher.model"):
        for name, teacher in teachers.items():
            where = config.targets or config.every_teacher[name].source
            wanted = teacher.network.config.channels
            if wanted != channels:
                raise ValueError(
                    f"the teacher in {where} takes images of {wanted} channels and the student "
                    f"{channels}; set config.model.channels={wanted}"
                )
            config.matching.check_teacher(f"the teacher in {where}", teacher.classes, classes)


def _trainee(
    config: DistillConfig,
    workdir: Workdir,
    student: Network,
    teachers: dict[str, Teacher],
    splits: Splits,
    *,
    stored: bool,
) -> Trainee:
    matching = config.matching
    check_teachers(config, student, teachers)
    if not stored:
        with blame("config.teacher.model"):
            for teacher in teachers.values():
                teacher.network.check(config.train.batch_size)
    student = projected(student, teachers, matching)
    labelled = bool(splits.train.class_names) and bool(student.config.num_classes)
    # Teachers that are not there cannot be compared with.
    present = {} if stored else teachers
    return Trainee(
        config=config,
        workdir=workdir,
        network=student,
        task=FunctionMatching(
            student, teachers, matching, labelled=labelled, stored=STORED if stored else None
        ),
        metrics=lambda among: distillation_metrics(student, present, among=among),
        view_metrics=(
            lambda among: distillation_metrics(
                student,
                present,
                mixed=lambda images: mix_views(matching, jax.random.key(0), images).images,
                labelled=labelled,
                among=among,
            )
        )
        if present or labelled
        else None,
        initial=starting_params(config.start, student, config, FunctionMatching.training_only),
    )


if __name__ == "__main__":
    launch_training(__doc__, DistillConfig, run_all)
