"""What a config says of a distillation: students, teachers, and what is matched."""

import dataclasses
from typing import Self

from distill.bounds import Positive, check_fields
from distill.config import how_it_runs
from distill.data import Splits, Store
from distill.data.tokens import Tokenizer
from distill.errors import GivenTwice, UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.views import ViewsConfig
from distill.nn import VisionNetwork
from distill.nn.family import ModelConfig
from distill.optim import OptimizerConfig, ScheduleConfig
from distill.paths import LocalPath
from distill.runs.opened import describe_model
from distill.runs.start import StartConfig
from distill.runs.student_classes import count_classes
from distill.runs.teachers import TEACHER, TeacherConfig
from distill.runs.words import frozen_text, keeping_text, pair_config, tokenizer_of
from distill.tasks.matching.config import MatchingConfig
from distill.train.run import RunConfig, blame
from students.pair import PairModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """One of several students."""

    model: ModelConfig
    start: StartConfig | None = None
    """A trained model to start from; None starts from nothing."""
    learning_rate: Positive | None = None
    """With the rest of the run's optimizer; None takes the run's."""
    optimizer: OptimizerConfig | None = None
    """In place of the run's, of which nothing is taken over; None takes the run's."""
    schedule: ScheduleConfig | None = None
    """In place of the run's, of which nothing is taken over; None takes the run's."""

    def __post_init__(self):
        check_fields(self)
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
    tokenizer: Tokenizer | None = None
    """Of students that are pairs: makes tokens of the texts they are measured by; None takes
    data.captions, or the teacher's."""
    evals: dict[str, EvaluationConfig] = how_it_runs(
        factory=lambda: {"val": SplitConfig(), "views": ViewsConfig()}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.teacher is not None and self.teachers:
            raise GivenTwice(
                "give teacher, or several teachers by name, not both", ("teacher", "teachers")
            )
        if self.teacher is None and not self.teachers and self.targets is None:
            raise ValueError(
                "give teacher, several teachers by name, or stored targets; teacher.workdir or "
                "teacher.weights.path says where"
            )
        if (self.model is None) == (not self.students):
            raise GivenTwice(
                "give model, the student, or several students by name",
                ("model", "students") if self.students else (),
            )
        if self.students and self.branch_from:
            raise ValueError("branch off a single student; each has a workdir of its own")
        if self.students and self.start:
            raise ValueError("each of several students has a start of its own, students.NAME.start")
        if len({isinstance(model, PairModel) for model in self.models}) > 1:
            raise ValueError(
                "students that are pairs and others learn different embeddings of a teacher; "
                "distil them in runs of their own"
            )
        for student in self.alone.values() if self.students else (self,):
            student.check_classifier()
            if student.start is not None and student.of_pairs:
                raise ValueError("a student that is a pair starts from nothing; leave start out")

    def check_classifier(self) -> None:
        """Checks that something teaches the student's classifier, if it has one.

        Raises:
          ValueError: if nothing does.
        """
        losses, start = self.matching.losses, self.start
        trained = losses.needs_labels or "logits" in losses.features
        kept = start is not None and start.classifier == "keep"
        classes = self.model.num_classes if self.model else 0
        if classes and not trained and not kept:
            raise ValueError(
                f"no term of matching.losses ({', '.join(losses.terms)}) teaches the student's "
                f"classifier of {classes} classes; set model.num_classes=0 for a "
                "student without one, or give kl, another term on logits, or labels a weight"
            )

    @property
    def every_teacher(self) -> dict[str, TeacherConfig]:
        """All teachers by name; none where only what they said is given.

        Where a student is a pair, published ones are taken with both towers.
        """
        found = self.teachers or ({TEACHER: self.teacher} if self.teacher else {})
        return {k: one.with_text() for k, one in found.items()} if self.of_pairs else found

    @property
    def of_pairs(self) -> bool:
        """Whether a student is a pair, and learns where texts are."""
        return any(isinstance(model, PairModel) for model in self.models)

    @property
    def keeps_text(self) -> TeacherConfig | None:
        """The teacher whose text tower a student keeps; None if none is kept.

        Raises:
          UserError: if nothing says which teacher's.
        """
        if not any(isinstance(model, PairModel) and model.text is None for model in self.models):
            return None
        teachers = self.every_teacher
        if len(teachers) != 1:
            named = ", ".join(teachers) or "none"
            raise UserError(
                "a student without a text tower of its own keeps that of its teacher, and there "
                f"has to be one: teachers are {named}; give config.model.text, or one teacher"
            )
        return next(iter(teachers.values()))

    def with_text(self) -> Self:
        """The config with students that say their text tower in full, which is frozen.

        Raises:
          UserError: if it is the teacher's, and the teacher has none.
        """
        if not self.of_pairs:
            return self
        kept, tokenizer = self.keeps_text, self.tokenizer or self.data.captions
        if tokenizer is None and self.every_teacher:
            tokenizer = tokenizer_of(next(iter(self.every_teacher.values())))
        found = dataclasses.replace(self, tokenizer=tokenizer)
        return found if kept is None else found.keeping(describe_model(kept.place).network)

    def keeping(self, teacher: VisionNetwork) -> Self:
        """The config with students that say their text tower in full, a teacher's, frozen.

        Raises:
          UserError: if the teacher has none.
        """
        assert self.keeps_text is not None
        kept = pair_config(teacher, self.keeps_text.source)

        def complete(model: ModelConfig) -> ModelConfig:
            if not isinstance(model, PairModel) or model.text is not None:
                return model
            return keeping_text(model, kept)

        return dataclasses.replace(
            self,
            model=self.model and complete(self.model),
            students={
                name: dataclasses.replace(one, model=complete(one.model))
                for name, one in self.students.items()
            },
            optimizer=frozen_text(self.optimizer),
        )

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """Those of all students."""
        several = (student.model for student in self.students.values())
        return tuple(several) if self.model is None else (self.model,)

    def with_classes(self, splits: Splits, store: Store | None = None) -> Self:
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
    def alone(self) -> dict[str, Self]:
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
