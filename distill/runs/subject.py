"""A model that is opened to be evaluated: a run's or a published one, and what goes with it."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from distill.config import resolve
from distill.data import DataConfig, Source
from distill.data.classes import Names, all_chosen, among
from distill.data.tokens import Tokenizer
from distill.errors import UserError
from distill.evaluate.distillation import distillation_metrics
from distill.evaluate.evaluation import EvaluationConfig
from distill.nn import Params, VisionNetwork
from distill.nn.fingerprint import fingerprint
from distill.parallel import MeshConfig, batch_devices, distributed, make_mesh
from distill.parallel.printed import say
from distill.runs.heads import is_head, open_head
from distill.runs.opened import Opened, open_model, recorded_tokenizer
from distill.runs.teachers import load_teachers, match_classes, recorded_teachers
from distill.runs.weights import PairWeightsConfig, WeightsConfig
from distill.runs.zero_shot import PublishedZeroShot, RunPair, zero_shot_about
from distill.subject import PerExample, Subject, Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import same_mixture
from distill.train.workdir import read_config
from teachers.pretrained import PublishedPair


@dataclasses.dataclass(frozen=True)
class OpenedSubject:
    """A finished model and the parameters that its evaluations are given."""

    subject: Subject
    params: Params
    frozen: Mapping[str, Params]
    """Of its teachers, by name; empty where it has none, or they are not there."""
    step: int | None
    """Of its checkpoint; None of published weights."""
    about: Mapping[str, Any]
    """What else it was made with, as JSON can hold it: `zeroshot`, of a pair whose classes are
    texts."""

    @functools.cached_property
    def parameters(self) -> str:
        """Their fingerprint."""
        return fingerprint(self.params)

    @functools.cached_property
    def teachers(self) -> dict[str, str]:
        """The fingerprints of its teachers' parameters, by name."""
        return {name: fingerprint(params) for name, params in self.frozen.items()}


def open_subject(
    model: Path | WeightsConfig,
    *,
    batch_size: int = 256,
    best: bool = False,
    data_dir: str | None = None,
    max_corrupt_share: float | None = None,
    with_teachers: bool = True,
    heads: bool = False,
    views: bool = True,
) -> OpenedSubject:
    """Opens a model on a mesh of all devices, and says how images are shown to it.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
      data_dir: see `DataConfig`; None takes the run's.
      max_corrupt_share: see `DataConfig`, likewise.
      with_teachers: whether to open the teachers it was distilled from, too.
      heads: whether a head on another model's tokens is one, too.
      views: whether it will see its view of images, so that what that is has to be said.

    Raises:
      UserError: if it cannot be read.
    """
    recorded = {} if isinstance(model, WeightsConfig) else read_config(model)
    data = resolve(DataConfig, recorded.get("data", {}))
    given = {"data_dir": data_dir or None, "max_corrupt_share": max_corrupt_share}
    data = dataclasses.replace(data, **{k: v for k, v in given.items() if v is not None})
    mesh = _mesh(batch_size)
    if heads and is_head(recorded):
        assert isinstance(model, Path)
        return _open_head(model, mesh, data, batch_size, best)
    opened = open_model(model, mesh, best=best)
    network, names = opened.network, opened.class_names
    if views:
        side = max(network.config.image_shape[:2])
        say(f"{opened.place} is shown {opened.view.described(side)}")
    if isinstance(opened.published, PublishedZeroShot):
        say(opened.published.described)
    configs = recorded_teachers(recorded) if with_teachers else {}
    try:
        teachers, frozen = load_teachers(configs, mesh)
    except UserError as error:
        say(f"nothing is compared with the teacher: {error}")
        teachers, frozen = {}, {}
    networks = (network, *(teacher.network for teacher in teachers.values()))
    matching = resolve(MatchingConfig, recorded["matching"]) if "matching" in recorded else None
    subject = Subject(
        place=opened.place,
        network=network,
        class_names=names,
        view=opened.view,
        data=data,
        split=data.test_split or data.validation_split,
        metrics=_metrics(network, teachers, data),
        view_metrics=_metrics(network, teachers, data, mixed=matching),
        view_size=max(side for one in networks for side in one.config.image_shape[:2]),
        batch_size=batch_size,
        seed=recorded.get("seed", 0),
        tokenizer=_tokenizer(model, opened, recorded),
    )
    return OpenedSubject(
        subject, opened.params, frozen, opened.step, zero_shot_about(opened.published)
    )


def open_subjects(
    model: Path | WeightsConfig, evals: Mapping[str, EvaluationConfig], **choices: Any
) -> Iterator[tuple[OpenedSubject, dict[str, EvaluationConfig]]]:
    """Opens a model as its evaluations take it, one after the other.

    Args:
      model: see `open_subject`.
      evals: by name.
      **choices: other arguments of `open_subject`.

    Yields:
      A model, and the evaluations that take it so: of published weights those that compare images
      with texts take both towers.

    Raises:
      UserError: if it cannot be read.
    """
    choices["with_teachers"] = any(one.needs_teachers for one in evals.values())
    apart = isinstance(model, WeightsConfig)
    for of_pair in (False, True) if apart else (None,):
        some = {k: one for k, one in evals.items() if of_pair in (None, one.needs_pair)}
        if some:
            choices["views"] = any(one.of_views for one in some.values())
            yield open_subject(as_taken(model, *some.values()), **choices), some


def as_taken(model: Path | WeightsConfig, *evals: EvaluationConfig) -> Path | WeightsConfig:
    """The model as evaluations take it, which take it alike."""
    if isinstance(model, WeightsConfig) and any(one.needs_pair for one in evals):
        return model.with_text()
    return model


def _open_head(
    workdir: Path, mesh: Mesh, data: DataConfig, batch_size: int, best: bool
) -> OpenedSubject:
    """A head with its tower, as it is measured."""
    opened = open_head(workdir, mesh, best=best)
    side = opened.network.config.image_shape[0]
    say(f"{opened.place} is shown {opened.network.shown}")
    subject = Subject(
        place=opened.place,
        network=opened.network,
        class_names=(),
        view=opened.view,
        data=data,
        split=data.test_split or data.validation_split,
        metrics=lambda images: lambda params, frozen, batch: {},
        view_size=side,
        batch_size=batch_size,
    )
    return OpenedSubject(subject, opened.params, {}, opened.step, {})


def _tokenizer(
    model: Path | WeightsConfig, opened: Opened, recorded: Mapping[str, Any]
) -> Tokenizer | None:
    if isinstance(opened.published, RunPair):
        return opened.published.tokenizer
    if isinstance(model, PairWeightsConfig) and isinstance(opened.published, PublishedPair):
        return model.open_tokenizer(opened.published)
    return recorded_tokenizer(recorded)


def _mesh(batch_size: int) -> Mesh:
    distributed.check_joined()
    try:
        mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    except ValueError as error:
        raise UserError(f"evaluation runs on one TPU slice: {error}") from error
    if batch_size % batch_devices(mesh):
        raise UserError(f"--batch_size={batch_size} is not divisible by {mesh.size} devices")
    return mesh


def _metrics(
    network: VisionNetwork,
    teachers: Mapping[str, Teacher],
    data: DataConfig,
    mixed: MatchingConfig | None = None,
) -> Callable[[Source], PerExample]:
    """Measures against labels and, with the teachers' classes in the images' order, teachers."""
    mixing = None if mixed is None else same_mixture(mixed)

    @functools.cache
    def made(names: Names, in_order: bool, some: tuple[int, ...] | None) -> PerExample:
        matched = match_classes(teachers, names, compared=False, in_order=in_order)
        labelled = bool(names)
        return distillation_metrics(network, matched, mixed=mixing, labelled=labelled, among=some)

    def measured(images: Source) -> PerExample:
        return made(images.class_names, data.in_order or all_chosen(images), among(images))

    return measured
