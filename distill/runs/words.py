"""Students that are pairs: the text tower that they keep, and what makes tokens for it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from distill.data.tokens import Tokenizer
from distill.errors import UserError
from distill.nn import PairConfig, Params, VisionNetwork
from distill.nn.adapt import adapt
from distill.optim import OptimizerConfig
from distill.runs.opened import ModelSource, describe_model, open_model, recorded_tokenizer
from distill.runs.weights import PairWeightsConfig
from distill.runs.zero_shot import RunPair
from distill.train.run import RunConfig
from distill.train.state import INIT_STREAM
from distill.train.workdir import read_config
from students.pair import PairModel, TextModel
from teachers.pretrained import PublishedPair

# Of a pair that keeps a text tower, what stays as it is: the tower, and what similarities are
# scaled by.
KEPT = ("text", "temperature", "bias")
_FREEZE = ("^text/", "^(temperature|bias)$")


def keeping_text(model: PairModel, kept: PairConfig) -> PairModel:
    """A student whose text tower is its teacher's, said in full.

    Args:
      model: the student.
      kept: what the teacher is.

    Raises:
      UserError: if the student has no image tower.
    """
    if model.image is None:
        raise UserError(
            "the student's image tower is missing; say what it is: "
            "--config.model.image.variant=S/16"
        )
    return dataclasses.replace(model, text=TextModel(**vars(kept.text)), bias=kept.bias)


def pair_config(network: VisionNetwork, source: str) -> PairConfig:
    """What pair a teacher is.

    Args:
      network: the teacher.
      source: where it is.

    Raises:
      UserError: if it is none.
    """
    config = network.config
    if not isinstance(config, PairConfig):
        raise UserError(
            f"the model in {source} has no text tower, which a pair learns from; a student "
            "of images alone is one of another family than `pair`"
        )
    return config


def frozen_text(config: OptimizerConfig) -> OptimizerConfig:
    """The optimiser of a pair whose text tower stays as it is."""
    kept = tuple((pattern, True) for pattern in _FREEZE)
    return (
        config
        if config.freeze[:2] == kept
        else dataclasses.replace(config, freeze=(*kept, *config.freeze))
    )


def kept_params(
    teacher: ModelSource, network: VisionNetwork, config: RunConfig
) -> Callable[[], Params]:
    """Reads what a student keeps of its teacher, once it is asked for; the rest is drawn.

    Args:
      teacher: a pair.
      network: the student, placed on a mesh.
      config: of the run.
    """

    def initial():
        found = open_model(teacher.place, network.mesh, step=teacher.step).params
        kept = {name: found[name] for name in KEPT if name in found}
        fresh = network.abstract_params.keys() - kept.keys()
        key = jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM)
        return adapt(kept, network, key, fresh=fresh)

    return initial


def tokenizer_of(source: ModelSource) -> Tokenizer | None:
    """What makes tokens of texts for a pair; None where nothing that is known says it."""
    place = source.place
    if isinstance(place, Path):
        return recorded_tokenizer(read_config(place))
    published = describe_model(place).published
    if isinstance(published, RunPair):
        return published.tokenizer
    if not isinstance(place, PairWeightsConfig) or not isinstance(published, PublishedPair):
        return None
    try:
        return place.open_tokenizer(published)
    except UserError:
        # It is there to measure by texts, which need not be asked for.
        return None
