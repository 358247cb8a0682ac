"""A trained or a published model, described or opened: one place for whoever uses one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
from jax.sharding import Mesh

from distill.bounds import Steps, check_fields
from distill.buckets import local, place_of
from distill.config import resolve
from distill.data import DataConfig
from distill.data.classes import Names
from distill.data.tokens import Tokenizer, open_tokenizer
from distill.errors import GivenTwice, UserError
from distill.evaluation_view import EvaluationView
from distill.nn import PairNetwork, Params, VisionNetwork
from distill.nn.adapt import CLASSIFIERS
from distill.nn.family import ModelConfig
from distill.nn.fingerprint import fingerprint
from distill.parallel import DEFAULT_RULES, MeshConfig, RuleTable, make_mesh
from distill.paths import WorkdirPath
from distill.runs.models import (
    check_shapes,
    checkpoint_step,
    read_checkpoint,
    recorded_model,
    recorded_view,
    without_execution,
)
from distill.runs.weights import AnyPublished, WeightsConfig, describe_network, place_published
from distill.runs.zero_shot import RunPair, RunTower
from distill.train.workdir import read_classes, read_config, read_teachers
from students.pair import PairModel
from teachers.pretrained import PublishedPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a config finds a model: in the workdir of a run, or in published weights.

    Raises:
      ValueError: unless it is in one of them.
    """

    workdir: WorkdirPath | None = None
    """Of the run that trained the model."""
    weights: WeightsConfig | None = None
    """Published weights, in place of `workdir`."""
    step: Steps | None = None
    """Of the run's checkpoint; None takes the last of a run that is complete, which pins it."""

    def __post_init__(self):
        check_fields(self)
        if (self.workdir is None) == (self.weights is None):
            raise GivenTwice(
                "give workdir, of the run that trained the model, or weights.path, of published "
                "weights" + ("" if self.workdir is None else ", not both"),
                () if self.workdir is None else ("workdir", "weights"),
            )
        if self.weights is not None and self.step is not None:
            raise ValueError("step is of a checkpoint in a workdir; published weights are one set")

    def with_text(self) -> Self:
        """The same model, with both towers of published weights."""
        if self.weights is None:
            return self
        return dataclasses.replace(self, weights=self.weights.with_text())

    @property
    def source(self) -> str:
        """Where the model is: the workdir or the path of its weights."""
        if self.weights is not None:
            return self.weights.path
        # One of both is given.
        assert self.workdir is not None
        return self.workdir

    def described(self, dtype: str | None = None) -> dict[str, Any]:
        """What the model is, from which `distill.runs.weights.described_network` builds it.

        Args:
          dtype: of the activations of published weights; None keeps their own.

        Raises:
          UserError: if it is not there.
        """
        place = self.place
        if isinstance(place, Path):
            return read_config(place)["model"]
        return describe_network(describe_model(place, dtype=dtype).network)

    def fingerprint(self, params: Params, dtype: str | None = None) -> str:
        """A text that another function would not have.

        Args:
          params: of the model.
          dtype: in which they are, where that is not the model's own.

        Raises:
          UserError: if the model is not there.
        """
        model = without_execution(self.described(dtype))
        if dtype is not None:
            model["dtype"] = dtype
        return fingerprint(params, model)

    @property
    def place(self) -> Path | WeightsConfig:
        """The same, as `describe_model` and `open_model` take it."""
        if self.weights is not None:
            return self.weights
        return local(self.source)


class Described(NamedTuple):
    """What is known of a model before its parameters are read."""

    network: VisionNetwork
    """Not placed on a mesh."""
    class_names: Names
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image it is to be shown."""
    published: AnyPublished | None
    """What its files say; None of the model of a run."""


class Opened(NamedTuple):
    """A model on a mesh, and what is known of it."""

    place: str
    """Its workdir, or the path of its weights."""
    network: VisionNetwork
    params: Params
    class_names: Names
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image it is to be shown."""
    step: int | None
    """Of its checkpoint; None of published weights."""
    published: AnyPublished | None = None
    """What its files say; None of the model of a run."""


def describe_model(
    model: Path | WeightsConfig,
    *,
    dtype: str | None = None,
    expected: ModelConfig | None = None,
) -> Described:
    """What a run recorded, or files of published weights say, of a model; no parameter is read.

    Args:
      model: a workdir, whose run may only have begun, or where the weights are.
      dtype: of activations; None keeps the model's own.
      expected: what the caller believes a workdir holds, see `recorded_model`; of weights, names
        and shapes are compared.

    Raises:
      UserError: if it cannot be read, or is another model than expected.
    """
    if isinstance(model, WeightsConfig):
        published = _open_weights(model, dtype)
        if expected is not None:
            check_shapes(published.network, expected, model.path)
        names = () if isinstance(published, PublishedPair | RunPair) else published.class_names
        return Described(published.network, names, published.view, published)
    network = recorded_model(model, dtype=dtype, expected=expected).network()
    return Described(network, read_classes(model), recorded_view(model), None)


def open_model(
    model: Path | WeightsConfig,
    mesh: Mesh,
    *,
    step: int | None = None,
    best: bool = False,
    dtype: str | None = None,
    rules: RuleTable = DEFAULT_RULES,
    expected: ModelConfig | None = None,
) -> Opened:
    """Opens the model of a run, or published weights.

    Args:
      model: a workdir, or where the weights are.
      mesh: whose devices read their parts of the parameters.
      step: of a run's checkpoint; None takes the last of a complete run, which no longer changes.
      best: whether to take the weights that did best by a run's `train.keep_best`.
      dtype: of parameters and activations; None keeps float32 parameters and the model's own
        activations.
      rules: where the arrays live on the mesh.
      expected: what the caller believes is there; see `describe_model`.

    Raises:
      UserError: if it cannot be read, is another model than expected, or has no such checkpoint; if
        the run is not complete and no step is given.
    """
    found = describe_model(model, dtype=dtype, expected=expected)
    network = found.network.placed(mesh, rules)
    if isinstance(model, Path):
        place, step = place_of(model), checkpoint_step(model, step, best=best)
        locked = is_locked(read_config(model))
        own = network
        if locked:
            assert isinstance(found.network, PairNetwork)
            own = found.network.locked().placed(mesh, rules)
        params = read_checkpoint(model, own, step, best=best, dtype=dtype)
        if locked:
            params = {"image": _locked_tower(model, mesh, rules, dtype), **params}
    else:
        assert found.published is not None
        place, params = model.path, place_published(found.published, network, dtype)
    return Opened(place, network, params, found.class_names, found.view, step, found.published)


def _open_weights(model: WeightsConfig, dtype: str | None) -> AnyPublished:
    if not model.of_run:
        return model.open(dtype)
    pair = _run_pair(Path(model.path), dtype)
    if model.zeroshot is None:
        return pair
    tokenizer = pair.tokenizer
    if model.tokenizer:
        tokenizer = open_tokenizer(
            model.tokenizer, family=tokenizer.family, length=tokenizer.length
        )
    return model.zeroshot.open(pair, tokenizer)


def _run_pair(workdir: Path, dtype: str | None) -> RunPair:
    """The pair that a run trained.

    Raises:
      UserError: if it trained none, or nothing says how texts become its tokens.
    """
    model, tokenizer = (
        recorded_model(workdir, dtype=dtype),
        recorded_tokenizer(read_config(workdir)),
    )
    network = model.network()
    if not isinstance(model, PairModel) or not isinstance(network, PairNetwork):
        raise UserError(
            f"the model in {place_of(workdir)} is no pair: it has no text tower to compare images "
            "with, and no classes that are texts"
        )
    if tokenizer is None:
        raise UserError(
            f"nothing says how texts become tokens of the pair in {place_of(workdir)}; train it "
            "with config.tokenizer.path"
        )

    def read(dtype: str) -> Params:
        # Each process has all of it, as of files.
        mesh = make_mesh(MeshConfig(), jax.local_devices()[:1])
        return jax.device_get(open_model(workdir, mesh, dtype=dtype).params)

    tower = RunTower(model.towers[0].network(), model.towers[0].family)
    return RunPair(network, tower, recorded_view(workdir), tokenizer, read)


def recorded_tokenizer(recorded: Mapping[str, Any]) -> Tokenizer | None:
    """What made tokens of texts for the pair of a run."""
    if recorded.get("tokenizer"):
        return resolve(Tokenizer, recorded["tokenizer"])
    return resolve(DataConfig, recorded.get("data", {})).captions


def is_locked(recorded: Mapping[str, Any]) -> bool:
    """Whether a run trained a pair on an image tower that is in none of its checkpoints."""
    return bool((recorded.get("model") or {}).get("locked"))


def without_classifier(params: Params) -> Params:
    """A model's parameters as a pair has those of its image tower."""
    return {name: value for name, value in params.items() if name not in CLASSIFIERS}


def _locked_tower(workdir: Path, mesh: Mesh, rules: RuleTable, dtype: str | None) -> Params:
    """The image tower that a pair was trained on, from where it is.

    Raises:
      UserError: if it is not there, or is another one by now.
    """
    ((_, known),) = read_teachers(workdir).items()
    whose = f"the pair in {place_of(workdir)} was trained on the image tower"
    params = without_classifier(open_recorded(known, whose, mesh, rules).params)
    return params if dtype is None else jax.tree.map(lambda x: x.astype(dtype), params)


def open_recorded(known: Mapping[str, Any], whose: str, mesh: Mesh, rules: RuleTable) -> Opened:
    """Opens the model that another was made on, as teachers.json tells of it.

    Args:
      known: what it tells.
      whose: how a message begins that tells where the model is.
      mesh: see `open_model`.
      rules: likewise.

    Raises:
      UserError: if it is not there, or is another one by now.
    """
    weights = known.get("weights")
    source = ModelSource(
        workdir=None if weights else known["source"],
        weights=resolve(WeightsConfig, weights) if weights else None,
        step=known.get("step"),
    )
    asked = known.get("dtype")
    try:
        found = open_model(source.place, mesh, step=source.step, dtype=asked, rules=rules)
    except UserError as error:
        raise UserError(f"{whose} in {source.source}: {error}") from error
    if (fingerprint := source.fingerprint(found.params, asked)) != known["fingerprint"]:
        raise UserError(
            f"{whose} in {source.source}, and what is there is no longer the one: its fingerprint "
            f"is {fingerprint}, and was {known['fingerprint']}"
        )
    return found
