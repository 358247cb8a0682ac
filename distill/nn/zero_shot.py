"""A pair's image tower as a classifier whose classes are texts (arXiv 2103.00020, section 3.1).

Without classes it is the image tower as texts are compared with it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from distill.bounds import Classes, Width, check_fields
from distill.nn.joint import JointImages, OfImageTower, similarities
from distill.nn.network import Params
from distill.nn.pair import Pair, PairConfig, PairNetwork
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer, ViTConfig
from distill.parallel.compiling import jit_replicated

# Of big_vision, as that of embeddings is.
_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotClassifierConfig(OfImageTower):
    """Every choice in a classifier made of a pair's image tower and class vectors.

    Raises:
      ValueError: for a negative number of classes.
    """

    image: ViTConfig
    num_classes: Classes
    """0 leaves class vectors out, and what logits are made with: there is the embedding alone."""
    embedding_width: Width
    """E, of embeddings and class vectors."""
    projection: bool = False
    """The image's pooled embedding is projected to E, as CLIP has it; else it is as wide."""
    projection_bias: bool = False
    bias: bool = False
    """A learnt number is added to similarities."""

    def __post_init__(self):
        check_fields(self)

    @property
    def embed_dim(self) -> int:
        """Width of the projection; 0 of none."""
        return self.embedding_width if self.projection else 0

    @property
    def remat(self) -> str:
        """Of the image tower."""
        return self.image.remat


class ZeroShotClassifier(JointImages):
    """Images to their similarities with class vectors.

    `image` builds the image tower from its configuration. Class vectors begin as zeros:
    `class_vectors` computes them.
    """

    def __init__(
        self,
        config: ZeroShotClassifierConfig,
        *,
        image: Callable[..., nnx.Module] = VisionTransformer,
        rngs: nnx.Rngs,
    ):
        c = self.config = config
        super().__init__(c, image=image, rngs=rngs)
        vectors = jnp.zeros((c.num_classes, c.embedding_width), jnp.float32)
        classes = c.num_classes > 0
        self.class_vectors = nnx.Param(vectors, axes=("classes", "joint")) if classes else None
        self.temperature = nnx.Param(jnp.float32(0), axes=()) if classes else None
        self.bias = nnx.Param(jnp.float32(0), axes=()) if classes and c.bias else None

    def logits(self, embedding: jax.Array) -> jax.Array:
        """Of embeddings [B, E] of length 1: [B, classes] float32; none without class vectors."""
        if self.class_vectors is None or self.temperature is None:
            return super().logits(embedding)
        bias = None if self.bias is None else self.bias[...]
        return similarities(embedding, self.class_vectors[...], self.temperature[...], bias)


@dataclasses.dataclass(frozen=True)
class ZeroShotNetwork(VisionNetwork):
    """A classifier whose classes are texts; its config is a `ZeroShotClassifierConfig`."""

    @classmethod
    def of(cls, image: VisionNetwork, pair: PairConfig, classes: int) -> Self:
        """That of a pair, whose parameters `classifier_params` makes of the pair's.

        Args:
          image: the pair's image tower, not placed.
          pair: the pair.
          classes: how many there are; 0 leaves the embedding alone.
        """
        config = ZeroShotClassifierConfig(
            image=pair.image,
            num_classes=classes,
            embedding_width=pair.embedding_width,
            projection=bool(pair.embed_dim),
            projection_bias=pair.projection_bias,
            bias=pair.bias,
        )
        return cls(config, functools.partial(ZeroShotClassifier, image=image.build))

    @property
    def tower(self) -> ViTConfig:
        """That of the pair's image tower."""
        return self.config.image

    def with_tower(self, **choices: Any) -> Self:
        """The same network, with other choices in `tower`."""
        image = dataclasses.replace(self.config.image, **choices)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, image=image))


def classifier_params(pair: Params, vectors: Any) -> Params:
    """The parameters of a `ZeroShotNetwork`: a pair's, with class vectors for its text tower."""
    kept = {name: value for name, value in pair.items() if name != "text"}
    return kept | {"class_vectors": vectors}


def image_params(pair: Params) -> Params:
    """The parameters of a `ZeroShotNetwork` without classes, of a pair's."""
    return {name: pair[name] for name in ("image", "image_projection") if name in pair}


def class_vectors(
    network: PairNetwork,
    params: Params,
    ids: np.ndarray,
    classes: np.ndarray,
    *,
    batch_size: int = 256,
) -> np.ndarray:
    """What stands for each class: the mean of its texts' embeddings, of length 1 again.

    All processes must call it where the network is on a mesh, and all get the same.

    Args:
      network: the pair; placed or not.
      params: of the pair; of one that is not placed, NumPy arrays will do.
      ids: tokens of texts that stand for classes, [N, L] int32.
      classes: the number of each text's class, int [N].
      batch_size: texts at a time.

    Returns:
      [classes, E] float32.

    Raises:
      ValueError: for a class without a text.
    """
    counts = np.bincount(classes)
    if not len(counts) or not counts.all():
        raise ValueError(f"class {np.argmin(counts) if len(counts) else 0} has no text")
    sums = np.zeros((len(counts), network.config.embedding_width))
    start = 0
    for found in embedded_texts(network, params, ids, batch_size=batch_size):
        np.add.at(sums, classes[start : start + len(found)], found)
        start += len(found)
    means = sums / counts[:, None]
    lengths = np.linalg.norm(means, axis=-1, keepdims=True)
    return (means / (lengths + _EPSILON)).astype(np.float32)


def embedded_texts(
    network: PairNetwork, params: Params, ids: np.ndarray, *, batch_size: int = 256
) -> Iterator[np.ndarray]:
    """Embeddings of texts, [at most batch_size, E] float32 of length 1, batch after batch.

    Args:
      network: see `class_vectors`.
      params: likewise.
      ids: of the texts, [N, L] int32.
      batch_size: texts at a time.
    """
    # Otherwise NumPy arrays would be sent to the device for each batch.
    params = {**params, "text": jax.tree.map(jnp.asarray, params["text"])}
    compute = _text_tower(network)
    for start in range(0, len(ids), batch_size):
        part = ids[start : start + batch_size]
        padding = np.repeat(part[:1], batch_size - len(part), axis=0)
        found = compute(params, np.concatenate([part, padding]))
        yield jax.device_get(found)[: len(part)]


@functools.cache
def _text_tower(network: PairNetwork) -> Callable[[Params, np.ndarray], jax.Array]:
    """Compiled once for all texts; of the parameters it takes the text tower's alone."""

    def compute(params, ids):
        return network.apply(params, ids, method=Pair.embed_texts)

    return jit_replicated(compute, None if network.placement is None else network.mesh)
