"""An image tower and a text tower whose embeddings are compared: CLIP, SigLIP, LiT."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx

from distill.bounds import OptionalWidth, Positive, Real, check_fields
from distill.nn.joint import JointImages, OfImageTower, normalise, similarities
from distill.nn.kernels import Kernel
from distill.nn.text import TextConfig, TextTransformer
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer, ViTConfig, ViTOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairConfig(OfImageTower):
    """Every choice in a pair of towers.

    Raises:
      ValueError: if the towers' embeddings are of different widths.
    """

    image: ViTConfig
    text: TextConfig
    embed_dim: OptionalWidth = 0
    """Width of a projection of the image's pooled embedding; 0 takes that itself."""
    projection_bias: bool = False
    bias: bool = False
    """A learnt number is added to similarities, as the sigmoid loss needs it (arXiv 2303.15343)."""
    initial_scale: Positive = 10.0
    """Of cosines; what is learnt is its logarithm."""
    initial_bias: Real = -10.0

    def __post_init__(self):
        check_fields(self)
        ours, theirs = self.embed_dim or self.image.width, self.text.embedding_width
        if ours != theirs:
            raise ValueError(
                f"images have embeddings of {ours} and texts of {theirs}; expected the same width. "
                "Set embed_dim of the pair or of its text tower"
            )

    @property
    def embedding_width(self) -> int:
        """E, of both embeddings."""
        return self.text.embedding_width

    @property
    def num_classes(self) -> int:
        """None: texts stand for classes."""
        return 0


class Pair(JointImages):
    """Embeddings of images and of texts, and the scale and bias of their similarities.

    `image` builds the image tower from its configuration.
    """

    def __init__(
        self,
        config: PairConfig,
        *,
        image: Callable[..., nnx.Module] = VisionTransformer,
        rngs: nnx.Rngs,
    ):
        c = self.config = config
        super().__init__(c, image=image, rngs=rngs)
        self.text = TextTransformer(c.text, rngs=rngs)
        self.temperature = nnx.Param(jnp.float32(math.log(c.initial_scale)), axes=())
        self.bias = nnx.Param(jnp.float32(c.initial_bias), axes=()) if c.bias else None

    def embed_images(self, images: jax.Array) -> jax.Array:
        """Maps prepared images [B, height, width, C] to [B, E] float32 of length 1."""
        return self(images).embedding

    def embed_texts(self, ids: jax.Array) -> jax.Array:
        """Maps ids [N, L] to [N, E] float32 of length 1."""
        return normalise(self.text(ids).embedding)

    def compare(self, images: jax.Array, ids: jax.Array) -> jax.Array:
        """Similarities [B, N] float32 of images and texts: cosines, scaled, with the bias.

        A pair's probability is their sigmoid where there is a bias, else their softmax over texts.
        """
        ours, theirs = self.embed_images(images), self.embed_texts(ids)
        bias = None if self.bias is None else self.bias[...]
        return similarities(ours, theirs, self.temperature[...], bias)


@dataclasses.dataclass(frozen=True)
class PairNetwork(VisionNetwork):
    """A pair; its config is a `PairConfig`. `prepare` is that of its image tower.

    To whoever asks for no more it is a network of images whose embedding is that which texts are
    compared with. `apply` with `method=Pair.embed_texts` or `Pair.compare` takes texts.
    """

    @classmethod
    def of(cls, image: VisionNetwork, text: TextConfig, **choices: Any) -> Self:
        """The pair of an image tower, of any family, and a text tower.

        Args:
          image: not placed.
          text: of the text tower.
          **choices: other fields of `PairConfig`.

        Raises:
          ValueError: if their embeddings do not fit.
        """
        config = PairConfig(image=image.config, text=text, **choices)
        return cls(config, functools.partial(Pair, image=image.build))

    def check(self, batch_size: int) -> None:
        """Traces both towers; see `Network.check`."""
        ids = jax.ShapeDtypeStruct((batch_size, self.config.text.length), "int32")
        compared = functools.partial(self.apply, method=Pair.compare)
        jax.eval_shape(compared, self.abstract_params, *self.abstract_inputs(batch_size), ids)

    @property
    def encoders(self) -> dict[str, Any]:
        """Those of both towers; see `Network.encoders`."""
        return {"image": self.config.image, "text": self.config.text}

    @property
    def tower(self) -> ViTConfig:
        """That of the image tower."""
        return self.config.image

    def with_tower(self, **choices: Any) -> Self:
        """The same network, with other choices in `tower`."""
        image = dataclasses.replace(self.config.image, **choices)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, image=image))

    def locked(self) -> "LockedPairNetwork":
        """The same pair, not placed, to train on an image tower that stays as it is."""
        return LockedPairNetwork(self.config, functools.partial(Pair, image=_Elsewhere))

    def with_attention(self, kernel: Kernel) -> Self:
        """The same network, the attention of both encoders computed by `kernel`."""
        towers = {
            name: dataclasses.replace(getattr(self.config, name), attention=kernel)
            for name in ("image", "text")
        }
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **towers))


class _Elsewhere(nnx.Module):
    """In place of an image tower: its embeddings are given. Has no parameters."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        del config, rngs

    def __call__(self, embedding: jax.Array) -> ViTOutput:
        nothing = embedding[:, :0]
        return ViTOutput(logits=nothing, embedding=embedding, tokens=nothing[:, None])


@dataclasses.dataclass(frozen=True)
class LockedPairNetwork(PairNetwork):
    """A pair without its image tower, whose embeddings [B, D] it takes in place of images.

    Locked-image tuning (LiT, arXiv 2111.07991): the image tower computes them elsewhere, or has
    computed them long ago. The parameters are those of the pair but `image`, and are drawn alike
    whatever the image tower is.
    """

    def abstract_inputs(self, batch_size: int) -> tuple[Any, ...]:
        """Embeddings of an image tower, [B, D] float32."""
        return (jax.ShapeDtypeStruct((batch_size, self.config.image.width), "float32"),)

    @property
    def encoders(self) -> dict[str, Any]:
        """That of the text tower; see `Network.encoders`."""
        return {"text": self.config.text}
