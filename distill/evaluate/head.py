"""A head on frozen tokens, measured: what the evaluation `split` is of a model that is one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distill.analysis.linear import LinearClassifier, Standardisation
from distill.data.sources import abbreviate
from distill.data.spec import MaskSpec
from distill.errors import UserError
from distill.evaluate import depth, segmentation
from distill.evaluate.dense import DenseImages, OutputsOf, open_dense
from distill.evaluate.dense_learning import Learnt, linear
from distill.nn import Params
from distill.nn.dense import DepthScale, HeadedNetwork
from distill.subject import Subject


class HeadEvaluation:
    """Figures as the evaluations `segmentation` and `depth` have them, of a head that is given.

    Args:
      network: the head on its tower, placed.
      evaluation: of the tower.
    """

    def __init__(
        self,
        network: HeadedNetwork,
        evaluation: segmentation.SegmentationEvaluation | depth.DepthEvaluation,
    ):
        self._evaluation, self._scale = evaluation, network.config.depth
        self.remarks = evaluation.remarks[1:]

    @property
    def missing(self) -> frozenset[str]:
        """Figures of which the last call could say nothing."""
        return self._evaluation.missing

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Figures as `name/mean_iou` or `name/rmse`; all processes must call it.

        Args:
          params: of the head and its tower.
          frozen: nothing.

        Raises:
          RunFailed: if too many images are corrupt, or a prediction is not finite.
          UserError: if a label is of no class.
        """
        del frozen
        learnt, tower = {1.0: learnt_of(params["head"])}, params["tower"]
        if isinstance(self._evaluation, depth.DepthEvaluation):
            assert self._scale is not None
            return self._evaluation.measure(tower, learnt, _depths(self._scale))
        return self._evaluation.measure(tower, learnt)

    def metrics(self, params: Any, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        names = self._evaluation.metrics(params, frozen)
        # Nothing is learnt here, by no penalty.
        return frozenset(name for name in names if not name.endswith("/l2"))

    def seen(self) -> list[str]:
        """How many images the last call has predicted."""
        return [self._evaluation.predicted()]

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and of classes a row for each."""
        about = self._evaluation.about()
        task = "segmentation" if self._scale is None else "depth"
        details = about["details"] | {"drawn_as": task}
        kept = {name: value for name, value in about.items() if name != "learnt_from"}
        return kept | {"details": details}


def head_evaluation(
    name: str, subject: Subject, *, source: str | None, split: str | None
) -> HeadEvaluation | None:
    """The evaluation of a head; None of a run that holds no split out.

    Args:
      name: prefix of the metrics.
      subject: whose network is a head on its tower.
      source: of images; None takes the run's own.
      split: of the source; None takes the subject's.

    Raises:
      UserError: if images are missing, or of other classes than the head's.
    """
    network = subject.network
    assert isinstance(network, HeadedNetwork)
    tower = _of_tower(subject)
    view, scale = network.config.view, network.config.depth
    asked: Any = dict(source=source, test_split=split, tokens=view)
    if scale is not None:
        config = depth.DepthConfig(limits=scale.limits, part=network.config.part, **asked)
        images = open_dense(name, config, tower, depth.ARRAY, "depth:PATH", learns=False)
        if images is None:
            return None
        return HeadEvaluation(network, depth.DepthEvaluation(name, config, tower, images))
    config = segmentation.SegmentationConfig(**asked)
    images = open_dense(name, config, tower, segmentation.ARRAY, "masks:PATH", learns=False)
    if images is None:
        return None
    _check_classes(network, images)
    return HeadEvaluation(network, segmentation.SegmentationEvaluation(name, config, tower, images))


def learnt_of(head: Params) -> Learnt:
    """What a head says of tokens, as an evaluation takes it.

    Args:
      head: its parameters.
    """
    mean, std, kernel, bias = (
        np.asarray(jax.device_get(head[name]), np.float64)
        for name in ("mean", "std", "kernel", "bias")
    )
    return linear(LinearClassifier(Standardisation(mean, std), kernel, bias), None)


def _depths(scale: DepthScale) -> OutputsOf:
    return lambda scores: np.asarray(scale(jnp.asarray(scores)))


def _of_tower(subject: Subject) -> Subject:
    network = subject.network
    assert isinstance(network, HeadedNetwork)
    return dataclasses.replace(subject, network=network.base)


def _check_classes(network: HeadedNetwork, images: DenseImages) -> None:
    assert isinstance(images.spec, MaskSpec)
    ours, theirs = network.config.class_names, images.spec.class_names
    if ours != theirs:
        raise UserError(
            f"the head tells {abbreviate(ours)} apart, and masks of "
            f"{images.data.evaluation_source} have {abbreviate(theirs)}; name masks of the same "
            "classes in the same order"
        )
