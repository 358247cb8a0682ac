"""A head in the making: what it is on, how it is found in closed form, and how it is trained."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from distill.analysis.linear import FeatureMoments, LinearClassifier, check_finite
from distill.data import Splits
from distill.data.spec import MaskSpec
from distill.errors import RunFailed, UserError
from distill.evaluate import depth, segmentation
from distill.evaluate.dense_tokens import DenseTokens
from distill.nn import Params
from distill.nn.dense import HeadedNetwork
from distill.optim import OptimizerConfig, ScheduleConfig
from distill.parallel.printed import say
from distill.runs.evaluations import evaluations, final_evaluation, subject_of
from distill.runs.heads import (
    TOWER,
    HeadTrainingConfig,
    SegmentationHead,
    bare,
    frozen_statistics,
    headed_network,
    task_of,
)
from distill.runs.opened import describe_model, open_model
from distill.subject import Subject
from distill.tasks.dense import NORM_EPSILON
from distill.train.config import TrainConfig
from distill.train.loop import Evaluate
from distill.train.run import plan
from distill.train.state import init_params
from distill.train.trainee import Trainee
from distill.train.workdir import Workdir, read_teachers


class Tower(NamedTuple):
    """The model that a head is made on."""

    config: HeadTrainingConfig
    """With how images are resized for it, where nothing said that."""
    network: HeadedNetwork
    """With the head, placed."""
    params: Params
    """Of the tower alone."""
    known: dict[str, Any]
    """What is told of it in teachers.json."""


def channels_of(config: HeadTrainingConfig) -> int:
    """Of the images that the tower sees.

    Raises:
      UserError: if it cannot be read.
    """
    return describe_model(config.tower.place, dtype=config.tower.dtype).network.config.channels


def open_tower(config: HeadTrainingConfig, splits: Splits, mesh: Mesh) -> Tower:
    """Opens the tower, and puts a head on it.

    Args:
      config: of the run.
      splits: its images, which say what classes there are.
      mesh: to open it on.

    Raises:
      UserError: if it cannot be read or be shown images so, or images say nothing of their pixels.
    """
    source = config.tower
    opened = open_model(
        source.place, mesh, step=source.step, dtype=source.dtype, rules=config.mesh.table
    )
    known = {
        "fingerprint": source.fingerprint(opened.params, source.dtype),
        "source": source.source,
        "step": source.step,
        "weights": None if source.weights is None else dataclasses.asdict(source.weights),
        "dtype": source.dtype,
        "model": source.described(source.dtype),
        "view": dataclasses.asdict(opened.view),
    }
    base, params = bare(opened.network, opened.params)
    network = headed_network(base, config.head, _classes(config, splits))
    if config.head.learn == "trained":
        config = frozen_statistics(config)
    return Tower(config.completed(opened.view), network, params, {TOWER: known})


def _classes(config: HeadTrainingConfig, splits: Splits) -> tuple[str, ...]:
    """Of pixels; none of depths.

    Raises:
      UserError: if images to train on say nothing of pixels, or others have other classes.
    """
    task, found = config.head.task, splits.train.spec
    array, kind = (
        (segmentation.ARRAY, "masks") if task == "segmentation" else (depth.ARRAY, "depth")
    )
    if array not in found:
        raise UserError(
            f"{config.data.training_source} has {', '.join(found)} of its images, and no {array}, "
            f"which a head of head.task={task} learns; name a source that has, such as "
            f"--config.data.source={kind}:PATH"
        )
    spec = found[array]
    return spec.class_names if isinstance(spec, MaskSpec) else ()


class OnTower:
    """An evaluation of a head on its tower, given what is trained and, frozen, the tower.

    Args:
      evaluation: of both.
    """

    def __init__(self, evaluation: Evaluate):
        self._evaluation = evaluation

    @property
    def missing(self) -> frozenset[str]:
        """Metrics of which the last call could say nothing."""
        return self._evaluation.missing

    def metrics(self, params: Params, frozen: Any) -> frozenset[str] | None:
        """The names of what may be found; None where nothing says them."""
        return self._evaluation.metrics({"tower": frozen, "head": params}, None)

    def __call__(self, params: Params, frozen: Any) -> dict[str, float]:
        """The metrics.

        Args:
          params: of the head.
          frozen: of the tower.
        """
        return self._evaluation({"tower": frozen, "head": params}, None)


def head_trainee(tower: Tower, workdir: Workdir, splits: Splits) -> Trainee:
    """A head to make, with its task and its evaluations.

    Args:
      tower: with the head on it.
      workdir: of the run.
      splits: the images.

    Raises:
      ConfigError: for a run that cannot be what its config asks for.
      UserError: if what an evaluation needs is missing.
    """
    config, network = tower.config, tower.network
    _check_same(tower, workdir)
    trained = config.head.learn == "trained"
    planned = plan(config if trained else _at_once(config), network.head, splits)
    subject = subject_of(
        config,
        workdir,
        network,
        splits,
        (),
        metrics=lambda among: lambda params, frozen, batch: {},
        view_metrics=None,
        view_size=network.config.image_shape[0],
    )
    final = final_evaluation(subject)
    spec = splits.train.spec.get(segmentation.ARRAY)
    ignore = spec.ignore if isinstance(spec, MaskSpec) else 255

    def initial() -> Params:
        if trained:
            return _standardising(tower, splits)
        return _closed_form(tower, subject)

    return Trainee(
        config=config,
        plan=planned,
        workdir=workdir,
        network=network.head,
        task=task_of(network, config.head, ignore),
        evaluations=[
            one._replace(evaluate=OnTower(one.evaluate)) for one in evaluations(config, subject)
        ],
        final=OnTower(final) if final else None,
        class_names=network.config.class_names or None,
        initial=initial,
        section="head",
        teachers=tower.known,
    )


def _at_once(config: HeadTrainingConfig) -> HeadTrainingConfig:
    """The config of a head in closed form, whose training is one step of which nothing is asked."""
    return dataclasses.replace(
        config,
        schedule=ScheduleConfig(kind="constant", warmup_steps=0),
        optimizer=OptimizerConfig(),
        train=TrainConfig(batch_size=1, total_steps=1),
    )


def _check_same(tower: Tower, workdir: Workdir) -> None:
    """Checks that a run goes on with the tower that it was begun with.

    Raises:
      UserError: if that is another one by now.
    """
    there = read_teachers(workdir.path).get(TOWER, tower.known[TOWER])
    if (was := there["fingerprint"]) != (now := tower.known[TOWER]["fingerprint"]):
        raise UserError(
            f"the head in {workdir.path} was begun on the model in {there['source']}, and what is "
            f"in {tower.config.tower.source} is no longer the one: its fingerprint is {now}, and "
            f"was {was}. Restore it, or make a head on this one in a new --workdir"
        )


def _standardising(tower: Tower, splits: Splits) -> Params:
    """The parameters that training starts with: drawn, but for the standardisation.

    The tower does not change, so the statistics that batch normalisation is to use once the head is
    trained are known before: exactly, as "Rethinking 'Batch' in BatchNorm" (arXiv 2105.07576) has
    it, in place of a moving average over batches.
    """
    config, network = tower.config, tower.network
    tokens = DenseTokens(
        network.base,
        config.head.tokens,
        config.data,
        by=config.data.view.evaluation.filter,
        batch_size=config.train.batch_size,
    )
    images = splits.train
    count = min(config.head.statistics_images, len(images))
    found = None
    chosen = np.linspace(0, len(images) - 1, count).astype(np.int64)
    for image in tokens(tower.params, images, chosen, overlapping=False):
        flat = np.concatenate([one.reshape(-1, tokens.width) for one in image.tokens])
        check_finite(flat, "token")
        moments = FeatureMoments.of(flat)
        found = moments if found is None else found + moments
    if found is None:
        raise RunFailed(f"none of {count} images to train on can be decoded; check the data")
    drawn = init_params(network.head, config.seed)
    std = np.sqrt(found.squares / found.count + NORM_EPSILON)
    return drawn | _placed(network, {"mean": found.mean, "std": std})


def _closed_form(tower: Tower, subject: Subject) -> Params:
    """The head that ridge or logistic regression finds of all images to train on."""
    config, head = tower.config, tower.config.head
    data = dataclasses.replace(config.data, eval_source=None)
    split = data.train_split
    subject = dataclasses.replace(subject, network=tower.network.base, data=data, opened=None)
    asked: Any = dict(
        train_split=split, test_split=split, tokens=head.tokens, probe=head.learn, l2=head.l2,
        seed=config.seed,
    )  # fmt: skip
    if isinstance(head, SegmentationHead):
        evaluation = segmentation.SegmentationConfig(patches=head.patches, **asked)
    else:
        evaluation = depth.DepthConfig(limits=head.limits, **asked)
    try:
        built = evaluation.build("head", subject)
        assert built is not None
        (learnt,) = built.learn(tower.params).values()
    except UserError as error:
        # It names the keys of an evaluation of that name.
        raise UserError(str(error).replace("config.evals.head.", "config.head.")) from error
    if learnt.l2 is not None:
        say(f"train_head: {head.learn} with l2={learnt.l2:g}")
    assert learnt.classifier is not None
    return _placed(tower.network, parameters_of(learnt.classifier))


def parameters_of(classifier: LinearClassifier) -> dict[str, np.ndarray]:
    """A linear map of standardised tokens as the parameters of a head."""
    scale = classifier.standardisation
    return {
        "mean": scale.mean,
        "std": scale.std,
        "kernel": classifier.kernel,
        "bias": classifier.bias,
    }


def _placed(network: HeadedNetwork, arrays: dict[str, np.ndarray]) -> Params:
    """On the mesh that the head is placed on, float32."""
    shardings = network.head.shardings
    return {
        name: jax.make_array_from_callback(
            value.shape, shardings[name], lambda index, value=value: value[index]
        )
        for name, value in ((name, one.astype(np.float32)) for name, one in arrays.items())
    }
