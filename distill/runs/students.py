"""Students, teachers and images brought together: classes, channels, views."""

import functools
from collections.abc import Iterable, Mapping

from distill.data import Splits, Store
from distill.data.classes import Names, all_chosen, name_classes
from distill.data.examples import STORED
from distill.errors import UserError, together
from distill.evaluate.distillation import distillation_metrics
from distill.evaluate.gallery import gallery_of
from distill.nn import PairConfig, PairNetwork, VisionNetwork
from distill.nn.family import ModelConfig
from distill.parallel.printed import say
from distill.runs.distillation import DistillConfig
from distill.runs.evaluations import evaluations, final_evaluation, subject_of
from distill.runs.start import StartConfig, kept_classes, starting_params
from distill.runs.teachers import TeacherConfig, check_there, match_classes
from distill.runs.words import kept_params
from distill.subject import Teacher
from distill.tasks.matching.function_matching import FunctionMatching, projected, same_mixture
from distill.tasks.matching.layers import check_layers_there
from distill.train.run import blame, plan
from distill.train.trainee import Trainee
from distill.train.workdir import Workdir


def view_size(students: Mapping[str, VisionNetwork], teachers: Mapping[str, Teacher]) -> int:
    """Side of views that no model has to enlarge."""
    networks = (*students.values(), *(teacher.network for teacher in teachers.values()))
    return max(side for network in networks for side in network.config.image_shape[:2])


def open_splits(config: DistillConfig, students: Iterable[ModelConfig]) -> Splits:
    """The images, which must have as many channels and classes as every student.

    Raises:
      UserError: if they have not, or a teacher that is to be asked about them is not there; what is
        wrong with both is said together.
    """
    students = tuple(students)
    channels = {student.channels for student in students}
    with blame("config.students"):
        if len(channels) > 1:
            raise ValueError(f"students take images of {sorted(channels)} channels; give them one")
    for ignored in config.matching.ignored:
        say(f"warning: config.matching.{ignored}: it changes nothing")
    asked = config.every_teacher if config.targets is None else {}
    _, splits = together(
        lambda: check_there(asked), lambda: config.data.open_splits(channels=channels.pop())
    )
    if config.matching.losses.needs_labels:
        if any(student.num_classes == 0 for student in students):
            raise UserError("config.matching.losses.labels needs a student with classes")
        splits.check_all_labelled("config.matching.losses.labels")
    return splits


def agree_on_classes(
    config: DistillConfig,
    students: Mapping[str, VisionNetwork],
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
    config: DistillConfig, student: VisionNetwork, teachers: Mapping[str, Teacher]
) -> None:
    """Checks that teachers see what the student sees and have what its loss compares.

    Raises:
      ConfigError: if they have not.
    """
    classes, channels = student.config.num_classes, student.config.channels
    with blame("config.matching"):
        check_layers_there(config.matching, student, teachers)
        _ = FunctionMatching(student, teachers, config.matching).abstract_statistics
    if config.matching.losses.needs_captions and not isinstance(student, PairNetwork):
        raise UserError(
            "config.matching.losses has terms of texts, and the student has no text tower; type "
            "--config.model.family=pair, with config.model.image for what it is now"
        )
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
            if isinstance(student, PairNetwork):
                _check_pair(config, student.config, teacher.network, where)


def _check_pair(
    config: DistillConfig, student: PairConfig, teacher: VisionNetwork, where: str
) -> None:
    """Checks that a pair can learn what is asked of it from a teacher.

    Raises:
      ValueError: if it cannot.
    """
    features, theirs = config.matching.losses.features, teacher.config
    ours = student.embedding_width
    if {"embedding", "texts"} & {*features} and theirs.embedding_width != ours:
        raise ValueError(
            f"the teacher in {where} has embeddings of {theirs.embedding_width} and the student of "
            f"{ours}; set config.model.text.embed_dim={theirs.embedding_width}, or match "
            "similarities (losses.similarities_softmax)"
        )
    if not {"texts", "similarities"} & {*features}:
        return
    if not isinstance(theirs, PairConfig):
        raise ValueError(f"the teacher in {where} has no text tower to learn from")
    for key in ("length", "vocab"):
        there, here = getattr(theirs.text, key), getattr(student.text, key)
        if there != here:
            raise ValueError(
                f"the text tower of the teacher in {where} has {key} {there} and the student's "
                f"{here}; both read the same tokens: set config.model.text.{key}={there}"
            )


def trainee(
    config: DistillConfig,
    workdir: Workdir,
    student: VisionNetwork,
    teachers: Mapping[str, Teacher],
    splits: Splits,
    class_names: Names,
    size: int,
    *,
    stored: bool,
    kept: TeacherConfig | None = None,
) -> Trainee:
    """A student, checked against its teachers, with its task and its evaluations.

    Args:
      config: of the student alone.
      workdir: of the student.
      student: placed on the mesh.
      teachers: by name, in the order of the student's classes.
      splits: the images.
      class_names: of the student; empty where nothing says them or it has no classes.
      size: side of the views in pixels.
      stored: whether only what the teachers said is there.
      kept: the teacher whose text tower the student keeps.

    Raises:
      ConfigError: if teachers do not see what the student sees, or lack what its loss compares.
    """
    matching = config.matching
    check_teachers(config, student, teachers)
    if not stored:
        with blame("config.teacher.model"):
            for teacher in teachers.values():
                teacher.network.check(config.train.batch_size)
    student = projected(student, teachers, matching)
    planned = plan(config, student, splits)
    labelled = bool(splits.train.class_names) and bool(student.config.num_classes)
    # Teachers that are not there cannot be compared with.
    present = {} if stored else teachers
    measured = functools.partial(distillation_metrics, student, present)
    on_views = functools.partial(measured, mixed=same_mixture(matching), labelled=labelled)
    subject = subject_of(
        config,
        workdir,
        student,
        splits,
        class_names,
        metrics=lambda among: measured(among=among),
        view_metrics=(lambda among: on_views(among=among)) if present or labelled else None,
        view_size=size,
        tokenizer=config.tokenizer,
    )
    return Trainee(
        config=config,
        plan=planned,
        workdir=workdir,
        network=student,
        task=FunctionMatching(
            student, teachers, matching, labelled=labelled, stored=STORED if stored else None
        ),
        evaluations=evaluations(config, subject, present),
        final=final_evaluation(subject),
        examples=gallery_of(subject, workdir.path, config.train.example_images, present),
        class_names=class_names,
        terms=matching.losses.weights,
        initial=starting_params(config.start, student, config, FunctionMatching.training_only)
        if kept is None
        else kept_params(kept, student, config),
    )
