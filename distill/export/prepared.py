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
from distill.export.dense import DenseExportable
from distill.export.dense_verify import DenseSamples
from distill.export.images import ImageExportable
from distill.export.model import Exportable, Tower
from distill.export.pairs import PairExportable
from distill.export.samples import (
    data_of,
    dense_samples,
    open_samples,
    pair_samples,
    text_samples,
)
from distill.export.texts import TextExportable
from distill.export.towers import open_run_tower, open_tower
from distill.export.verify import Samples
from distill.parallel import MeshConfig, make_mesh
from distill.runs.heads import is_head, open_head
from distill.runs.opened import open_model
from distill.runs.weights import WeightsConfig, describe_network
from distill.runs.zero_shot import zero_shot_about


class Prepared(NamedTuple):
    """A model that is to be exported."""

    model: Exportable
    samples: Samples | DenseSamples
    """What its exports are compared with JAX on."""
    about: dict[str, Any]
    """Where it comes from; see `distill.export.card`."""


def prepare(
    model: Path | WeightsConfig,
    tower: Tower | None,
    recorded: Mapping[str, Any],
    *,
    size: tuple[int, int] | None = None,
    **how: Any,
) -> Prepared:
    """A model of images, what `tower` says of a pair, or a head.

    Args:
      model: the workdir of a run, or published weights.
      tower: None takes a model of images as it is, and of a run's pair the image tower.
      recorded: the run's config; empty of published weights.
      size: of the images of a head, where a format takes one size alone.
      **how: see `prepare_model`.

    Raises:
      UserError: as both.
    """
    if is_head(recorded):
        if tower is not None:
            raise UserError(
                "--tower is of pairs, and the run made a head; it is exported with its tower"
            )
        assert isinstance(model, Path)
        return prepare_head(model, recorded, size=size, **how)
    if size is not None:
        raise UserError("--size is of heads, which take images of any size; leave it out")
    if tower is None and recorded.get("model", {}).get("family") == "pair":
        tower = "image"
    if tower is None:
        return prepare_model(model, recorded, **how)
    return prepare_tower(model, tower, recorded, **how)


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


# So many windows take as long as whole images of other models.
_MOST_DENSE = 16


def prepare_head(
    workdir: Path,
    recorded: Mapping[str, Any],
    *,
    best: bool,
    dtype: Literal["float32", "bfloat16"],
    compared_on: SplitConfig,
    images: int,
    size: tuple[int, int] | None = None,
) -> Prepared:
    """A head with the model that it is on.

    Args:
      workdir: of the run that made it.
      recorded: the run's config.
      best: whether to take the run's best weights instead of its last.
      dtype: of the exports.
      compared_on: images; what they show is not looked at.
      images: how many of them; 16 at most.
      size: see `prepare`.

    Raises:
      UserError: if either cannot be read, or it sees whole images.
    """
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    opened = open_head(workdir, mesh, best=best, dtype="float32")
    network = opened.network
    try:
        exported = DenseExportable(
            network=network,
            params=opened.params,
            class_names=network.config.class_names or None,
            dtype=dtype,
            filter=opened.view.filter,
            size=size,
        )
    except ValueError as error:
        raise UserError(f"the head in {opened.place} cannot be exported: {error}") from error
    data = data_of(compared_on, opened.data)
    samples = dense_samples(data, network, opened.view.filter, min(images, _MOST_DENSE))
    known = {**recorded, "model": describe_network(network)}
    if recorded["head"]["learn"] != "trained":
        known |= {"optimizer": {}, "schedule": {}}
    return Prepared(exported, samples, describe(workdir, known, best))


def prepare_tower(
    model: Path | WeightsConfig,
    tower: Tower,
    recorded: Mapping[str, Any],
    *,
    best: bool,
    dtype: Literal["float32", "bfloat16"],
    compared_on: SplitConfig,
    images: int,
) -> Prepared:
    """A pair, or one of its towers.

    Args:
      model: the workdir of the run that trained it, or published weights.
      tower: which; "pair" is both.
      recorded: the run's config; empty of published weights.
      best: whether to take the run's best weights instead of its last.
      dtype: of the exports.
      compared_on: images; a text tower takes none.
      images: how many of them.

    Raises:
      UserError: for another model, a classifier, images beside a text tower, or what cannot be
        read.
    """
    if isinstance(model, WeightsConfig) and model.zeroshot is not None:
        raise UserError(
            "--zeroshot_classes makes a classifier of a pair, and --tower takes a tower as it is; "
            "give one of them"
        )
    if tower == "text" and compared_on.source:
        raise UserError("--source names images, and --tower=text takes none: leave it out")
    if isinstance(model, Path):
        exported = open_run_tower(model, tower, best=best, dtype=dtype)
        about = describe(model, recorded, best) | {"model": describe_network(exported.network)}
    else:
        exported = open_tower(model, tower, dtype)
        about = describe_published(model, exported.network)
    data = resolve(DataConfig, recorded.get("data", {}))
    return Prepared(exported, _samples(exported, compared_on, data, images), about)


def _samples(model: Exportable, compared_on: SplitConfig, data: DataConfig, most: int) -> Samples:
    """Images, texts or both, by what a tower takes."""
    if isinstance(model, TextExportable):
        return text_samples(model.tokenizer, model.network.config.vocab)
    assert isinstance(model, ImageExportable | PairExportable)
    data = dataclasses.replace(data, captions=None, view=data.view.completed(model.view))
    _, samples = open_samples(data_of(compared_on, data), model.network.config, most, ())
    if isinstance(model, ImageExportable):
        return samples
    texts = text_samples(model.tokenizer, model.network.config.text.vocab)
    return pair_samples(samples, texts)
