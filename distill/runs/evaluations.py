"""The evaluations of a run while it trains."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from distill.buckets import place_of
from distill.data import Splits
from distill.data.classes import Names, among
from distill.data.tokens import Tokenizer
from distill.errors import UserError
from distill.evaluate.beside import Beside
from distill.evaluate.evaluation import Evaluation, EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.nn import PairNetwork, VisionNetwork
from distill.parallel.printed import say
from distill.subject import PerExample, Subject, Teacher
from distill.train.loop import Recurring
from distill.train.run import RunConfig
from distill.train.workdir import Workdir

MetricsAmong = Callable[[tuple[int, ...] | None], PerExample]
"""Makes metrics in which only some classes compete, given by number; None is all."""


def subject_of(
    config: RunConfig,
    workdir: Workdir,
    network: VisionNetwork,
    splits: Splits,
    class_names: Names,
    *,
    metrics: MetricsAmong,
    view_metrics: MetricsAmong | None,
    view_size: int,
    tokenizer: Tokenizer | None = None,
) -> Subject:
    """A model that is trained, as its evaluations see it.

    Args:
      config: of the run.
      workdir: of the run.
      network: placed on the mesh.
      splits: the run's images.
      class_names: in the order of the network's logits.
      metrics: what is measured.
      view_metrics: the same of training views; None measures nothing there.
      view_size: side of the views in pixels.
      tokenizer: of a pair; None takes that of the run's captions.
    """
    return Subject(
        place=place_of(workdir.path),
        network=network,
        class_names=class_names,
        view=config.data.view.evaluation,
        data=config.data,
        split=config.data.validation_split,
        opened=splits,
        metrics=_by_classes(metrics),
        view_metrics=view_metrics and _by_classes(view_metrics),
        view_size=view_size,
        batch_size=config.train.batch_size,
        seed=config.seed,
        tokenizer=tokenizer or config.data.captions,
    )


def evaluations(
    config: RunConfig, subject: Subject, teachers: Mapping[str, Teacher] = MappingProxyType({})
) -> list[Recurring]:
    """The evaluations that the config asks for, and which its images allow; says what they found.

    Args:
      config: of the run.
      subject: what is trained.
      teachers: that are there, by name; a single one is measured by texts beside its student.

    Raises:
      UserError: if what they need is missing.
    """
    found = []
    for name, one in config.evaluations.items():
        if (evaluation := build(name, one, subject)) is not None:
            say_remarks(name, evaluation)
            if one.needs_pair:
                evaluation = _beside_teacher(name, one, evaluation, subject, teachers)
            found.append(Recurring(one.every, evaluation))
    return found


def _beside_teacher(
    name: str,
    config: EvaluationConfig,
    evaluation: Evaluation,
    subject: Subject,
    teachers: Mapping[str, Teacher],
) -> Evaluation:
    pairs = {k: one for k, one in teachers.items() if isinstance(one.network, PairNetwork)}
    if len(pairs) != 1:
        return evaluation
    ((key, teacher),) = pairs.items()
    theirs = build(
        name, config, dataclasses.replace(subject, network=teacher.network, view=teacher.view)
    )
    return evaluation if theirs is None else Beside(evaluation, theirs, key)


def build(name: str, config: EvaluationConfig, subject: Subject) -> Evaluation | None:
    """The evaluation of that name; None where the run has nothing of what it takes from it.

    Raises:
      UserError: if what it needs is missing, with its name.
    """
    try:
        return config.build(name, subject)
    except UserError as error:
        raise UserError(f"evaluation {name}: {error}") from error


def final_evaluation(subject: Subject) -> Evaluation | None:
    """That of the test split, once the run is over; None of a run that has none."""
    split = subject.data.test_split
    return None if split is None else SplitConfig(split=split).build("test", subject)


def say_remarks(name: str, evaluation: Evaluation) -> None:
    """Says what is to be said of an evaluation's images."""
    for remark in evaluation.remarks:
        say(f"{name}: {remark}")


def _by_classes(metrics: MetricsAmong) -> Callable[..., PerExample]:
    # One object for all images of the same classes, so that it is compiled once.
    made = functools.cache(metrics)
    return lambda images: made(among(images))
