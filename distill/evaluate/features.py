"""Frozen features: the embeddings of all images of a source."""

import functools
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from distill.data import DataConfig, EvalLoader, Source, Subset
from distill.data.examples import Altered
from distill.errors import RunFailed
from distill.evaluate.outputs import Outputs
from distill.evaluation_view import EvaluationView
from distill.nn import Params, VisionNetwork
from distill.parallel import local_rows, put_batch


class Features(NamedTuple):
    """What a model makes of N images that could be decoded, in the order of their source."""

    embedding: np.ndarray
    """[N, D] float32, or as it is kept."""
    label: np.ndarray
    """[N] int32, −1 of an image without a label."""
    index: np.ndarray
    """[N] int64, places in the source, ascending."""


def split_loader(
    source: Source,
    data: DataConfig,
    mesh: Mesh,
    *,
    size: int,
    batch_size: int,
    view_seed: int | None = None,
    view: EvaluationView | None = None,
    altered: Altered | None = None,
) -> EvalLoader:
    """Goes over `source` in batches cut over `mesh`.

    Args:
      source: the images.
      data: how to read them.
      mesh: over whose devices batches divide evenly.
      size: side of the views in pixels.
      batch_size: over all devices.
      view_seed: draws training views, the same in each call; None cuts evaluation views.
      view: how evaluation views are cut; None takes what `data` says.
      altered: see `distill.data.examples.EvaluationViews`.
    """
    return EvalLoader(
        source,
        data,
        size=size,
        batch_size=batch_size,
        put=functools.partial(put_batch, mesh, size=batch_size),
        rows=local_rows(mesh, batch_size),
        view_seed=view_seed,
        view=view,
        altered=altered,
    )


def training_view_loader(
    source: Source,
    data: DataConfig,
    mesh: Mesh,
    *,
    size: int,
    batch_size: int,
    seed: int,
    limit: int = 10_000,
) -> EvalLoader:
    """Goes over a sample of training images, seen as in training: cropped and mirrored at random.

    Each call gives the same views, and none of them is trained on. Mixing them is the caller's, on
    the device, with a key that stays the same.

    Args:
      source: the training images.
      data: how to read them.
      mesh: over whose devices batches divide evenly.
      size: side of the views in pixels.
      batch_size: over all devices.
      seed: of the run.
      limit: the most images; of more, as many are taken at equal distances, as a source may be in
        the order of its classes.
    """
    if len(source) > limit:
        source = Subset(source, np.arange(limit) * len(source) // limit)
    return split_loader(source, data, mesh, size=size, batch_size=batch_size, view_seed=seed)


class FeatureExtractor:
    """Computes embeddings on the mesh the network is placed on; compiled once for all sources.

    Args:
      network: placed on the mesh.
      dtype: in which they are kept.
    """

    def __init__(self, network: VisionNetwork, dtype: np.typing.DTypeLike = np.float32):
        self._width, self._dtype = network.config.embedding_width, np.dtype(dtype)
        self._outputs = Outputs(network, "embedding")

    def __call__(self, params: Params, loader: EvalLoader) -> Features:
        """The features of what `loader` goes over, without padding and images that are corrupt.

        All processes must call it, and all get the same.

        Raises:
          RunFailed: if an embedding is not finite as it is kept, or too many images are corrupt.
        """
        count = len(loader.source)
        found = Features(
            np.empty((count, self._width), self._dtype),
            np.empty(count, np.int32),
            np.empty(count, np.int64),
        )
        filled = 0
        for rows in self._outputs(params, loader):
            end = filled + len(rows.index)
            # What is too large for float16 is said below.
            with np.errstate(over="ignore"):
                for whole, part in zip(found, rows, strict=True):
                    whole[filled:end] = part
            filled = end
        found = Features(*(whole[:filled] for whole in found))
        _check_finite(found, loader.source)
        return found


def _check_finite(features: Features, source: Source) -> None:
    sound = np.isfinite(features.embedding).all(axis=-1)
    if not sound.all():
        first = int(features.index[np.argmin(sound)])
        raise RunFailed(
            f"the embedding of {source.describe(first)} is not finite, and those of "
            f"{np.count_nonzero(~sound)} of {sound.size} images; check the model"
        )
