"""What a command exports, with what it is compared on and what is told of it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from distill.config import resolve
from distill.data import DataConfig
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.export.about import describe, describe_published
from distill.export.images import ImageExportable
from distill.export.model import Exportable, Kind
from distill.export.pairs import PairExportable
from distill.export.samples import data_of, open_samples, pair_samples, text_samples
from distill.export.texts import TextExportable
from distill.export.towers import open_tower
from distill.export.verify import Samples
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.runs.weights import WeightsConfig
from distill.runs.zero_shot import zero_shot_about

_PUBLISHED = DataConfig()
"""Of published weights, nothing says what they were trained on."""


class Prepared(NamedTuple):
    """A model that is to be exported."""

    model: Exportable
    samples: Samples
    """What its exports are compared with JAX on."""
    about: dict[str, Any]
    """Where it comes from; see `distill.export.card`."""


def prepare_model(
    model: Path | WeightsConfig,
    recorded: Mapping[str, Any],
    *,
    best: bool,
    dtype: Literal["float32", "bfloat16"],
    compared_on: SplitConfig,
    images: int,
) -> Prepared:
    """A model of images: a run's, a published one, or a pair as a classifier.

    Args:
      model: the workdir of the run, or published weights.
      recorded: the run's config; empty of published weights.
      best: whether to take the run's best weights instead of its last.
      dtype: of the exports.
      compared_on: images with labels.
      images: how many of them.

    Raises:
      UserError: if model or images cannot be read.
    """
    opened = open_model(model, make_mesh(MeshConfig(data=1, fsdp=-1)), best=best, dtype="float32")
    data = resolve(DataConfig, recorded.get("data", {}))
    data = dataclasses.replace(data, view=data.view.completed(opened.view))
    names, samples = open_samples(
        data_of(compared_on, data), opened.network.config, images, opened.class_names
    )
    exported = ImageExportable(
        network=opened.network,
        params=opened.params,
        class_names=names,
        activation="sigmoid" if recorded.get("loss", {}).get("kind") == "sigmoid" else "softmax",
        dtype=dtype,
        view=opened.view,
    )
    if isinstance(model, Path):
        about = describe(model, recorded, best)
    else:
        about = describe_published(model, opened.network) | zero_shot_about(opened.published)
    return Prepared(exported, samples, about)


def prepare_tower(
    model: Path | WeightsConfig,
    tower: Kind,
    *,
    dtype: Literal["float32", "bfloat16"],
    compared_on: SplitConfig,
    images: int,
) -> Prepared:
    """A published pair, or one of its towers.

    Args:
      model: the weights.
      tower: which; "pair" is both.
      dtype: of the exports.
      compared_on: images; a text tower takes none.
      images: how many of them.

    Raises:
      UserError: for a run, a classifier, images beside a text tower, or what cannot be read.
    """
    if isinstance(model, Path):
        raise UserError(f"--tower is of published pairs (--weights), and {model} is a run")
    if model.zeroshot is not None:
        raise UserError(
            "--zeroshot_classes makes a classifier of a pair, and --tower takes a tower as it is; "
            "give one of them"
        )
    if tower == "text" and compared_on.source:
        raise UserError("--source names images, and --tower=text takes none: leave it out")
    exported = open_tower(model, tower, dtype)
    samples = _samples(exported, compared_on, images)
    return Prepared(exported, samples, describe_published(model, exported.network))


def _samples(model: Exportable, compared_on: SplitConfig, most: int) -> Samples:
    """Images, texts or both, by what a tower takes."""
    if isinstance(model, TextExportable):
        return text_samples(model.tokenizer, model.network.config.vocab)
    assert isinstance(model, ImageExportable | PairExportable)
    data = dataclasses.replace(_PUBLISHED, view=_PUBLISHED.view.completed(model.view))
    _, samples = open_samples(data_of(compared_on, data), model.network.config, most, ())
    if isinstance(model, ImageExportable):
        return samples
    texts = text_samples(model.tokenizer, model.network.config.text.vocab)
    return pair_samples(samples, texts)
