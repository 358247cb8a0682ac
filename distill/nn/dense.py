"""What images show in each of their parts: a linear map of a vision transformer's patch tokens."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from flax import nnx

from distill.bounds import Positive, SomeClasses, Width, check_fields
from distill.dense_view import DenseView
from distill.nn.network import Network, Params
from distill.nn.vision import VisionNetwork
from distill.nn.vit import LayerTokens, VisionTransformer

# Of what is drawn of a head's kernel, as DINOv3's (arXiv 2508.10104) is.
_STD = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseHeadConfig:
    """The shape of a head.

    Raises:
      ValueError: if it takes or gives nothing.
    """

    width: Width
    """F, of tokens."""
    outputs: SomeClasses
    """C, scores of each patch."""

    def __post_init__(self):
        check_fields(self)


class DenseHead(nnx.Module):
    """An affine map of tokens whose features are first shifted and scaled."""

    def __init__(self, config: DenseHeadConfig, *, rngs: nnx.Rngs):
        width, outputs = config.width, config.outputs
        self.mean = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.std = nnx.Param(jnp.ones((width,), jnp.float32))
        drawn = _STD * jax.random.normal(rngs.params(), (width, outputs), jnp.float32)
        self.kernel = nnx.Param(drawn)
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [..., F] to scores [..., C] float32."""
        standardised = (tokens.astype(jnp.float32) - self.mean[...]) / self.std[...]
        return affine(standardised, self.kernel[...], self.bias[...])


def affine(tokens: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Scores [..., C] of standardised tokens [..., F], by a kernel [F, C] and a bias [C]."""
    # What a device rounds products to would be seen in the depths.
    return jnp.matmul(tokens, kernel, precision="highest") + bias


def dense_head(width: int, outputs: int) -> Network:
    """The head alone, not placed."""
    return Network(DenseHeadConfig(width=width, outputs=outputs), DenseHead)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthScale:
    """How depths are made of scores.

    Raises:
      ValueError: for limits that are none.
    """

    kind: Literal["log", "bins"]
    """The score is the logarithm of the depth; or the depth is the mean of as many as there are
    scores, evenly from the lowest to the highest, weighted by max(score, 0) + 0.1 (AdaBins,
    arXiv 2011.14141, with bins that are fixed, as DINOv2 and DINOv3 have it)."""
    limits: tuple[Positive, Positive]
    """Lowest and highest depth."""

    def __post_init__(self):
        check_fields(self)
        low, high = self.limits
        if low >= high:
            raise ValueError(f"limits must satisfy low < high, not {self.limits}")

    def __call__(self, scores: jax.Array) -> jax.Array:
        """Maps scores [..., C] to depths [..., 1]."""
        low, high = self.limits
        if self.kind == "log":
            return jnp.exp(jnp.clip(scores, math.log(low), math.log(high)))
        weights = jax.nn.relu(scores) + 0.1
        centres = jnp.linspace(low, high, scores.shape[-1], dtype=jnp.float32)
        total = jnp.sum(weights * centres, axis=-1, keepdims=True)
        return total / jnp.sum(weights, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadedConfig:
    """A head and what it is on."""

    tower: Any
    """The configuration of the network whose tokens it takes."""
    view: DenseView
    """Which of its tokens, and how images are shown to it."""
    head: DenseHeadConfig
    class_names: tuple[str, ...] = ()
    """Of which each has a score; empty of depths."""
    depth: DepthScale | None = None
    """Of depths; None of classes."""
    part: Literal["all", "eigen"] = "all"
    """What of an image's depths counts where they are measured; see `distill.analysis.depth`."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of windows."""
        return self.tower.image_shape

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.tower.channels

    @property
    def mean(self) -> tuple[float, ...]:
        """Of pixel values; see `distill.nn.ViTConfig`."""
        return self.tower.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Of pixel values; see `distill.nn.ViTConfig`."""
        return self.tower.std

    @property
    def num_classes(self) -> int:
        """None: classes are those of patches."""
        return 0


class Headed(nnx.Module):
    """Images to the scores of their patches.

    `tower` builds the network of images from its configuration.
    """

    def __init__(
        self,
        config: HeadedConfig,
        *,
        tower: Callable[..., nnx.Module] = VisionTransformer,
        layers: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        self.config, self.layers = config, layers
        self.tower: Any = tower(config.tower, rngs=rngs)
        self.head = DenseHead(config.head, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps normalised images [B, height, width, channels] to [B, rows, columns, C] float32."""
        view = self.config.view
        _, found = self.tower.with_layers(images, self.layers, normed=view.normed)
        return self.head(joined(found, class_token=view.class_token))


@dataclasses.dataclass(frozen=True)
class HeadedNetwork(VisionNetwork):
    """A head on the network that its tokens are of; its config is a `HeadedConfig`.

    Parameters are `tower`, those of the network, and `head`.
    """

    base: VisionNetwork = dataclasses.field(kw_only=True)
    """The network, placed where the whole is."""

    @classmethod
    def of(
        cls,
        base: VisionNetwork,
        view: DenseView,
        *,
        outputs: int,
        class_names: tuple[str, ...] = (),
        depth: DepthScale | None = None,
        part: Literal["all", "eigen"] = "all",
    ) -> Self:
        """A head on a network.

        Args:
          base: the network; where it is placed, the whole is.
          view: how images are shown to it, and which tokens the head takes.
          outputs: scores of each patch.
          class_names: where each score is a class's.
          depth: where depths are made of them.
          part: what of them counts.
        """
        layers, width = tokens_taken(base, view)
        config = HeadedConfig(
            tower=base.config,
            view=view,
            head=DenseHeadConfig(width=width, outputs=outputs),
            class_names=class_names,
            depth=depth,
            part=part,
        )
        build = functools.partial(Headed, tower=base.build, layers=layers)
        return cls(config, build, base.placement, base=base)

    @property
    def head(self) -> Network:
        """The head alone, placed where the whole is."""
        return Network(self.config.head, DenseHead, self.placement)

    def placed(self, *args: Any, **kwargs: Any) -> Self:
        """See `Network.placed`."""
        base = self.base.placed(*args, **kwargs)
        return dataclasses.replace(self, placement=base.placement, base=base)

    @property
    def tower(self) -> Any:
        """That of the network."""
        return self.base.tower

    @property
    def shown(self) -> str:
        """How images are shown to it, for people."""
        side, tower = self.config.image_shape[0], self.tower
        return self.config.view.described(side, tower.patch_size, tower.depth)

    def with_tower(self, **choices: Any) -> Self:
        """The same network, with other choices in `tower`."""
        config = self.config
        return self.of(
            self.base.with_tower(**choices),
            config.view,
            outputs=config.head.outputs,
            class_names=config.class_names,
            depth=config.depth,
            part=config.part,
        )


def tokens_taken(network: VisionNetwork, view: DenseView) -> tuple[tuple[int, ...], int]:
    """The layers whose tokens a view takes of a network, and the features of a patch, F."""
    tower = network.tower
    layers = view.layers or (tower.depth,)
    return layers, tower.width * len(layers) * (2 if view.class_token else 1)


def joined(found: LayerTokens, *, class_token: bool) -> jax.Array:
    """The tokens of each patch after all layers, [B, rows, columns, F] float32.

    Args:
      found: of K layers.
      class_token: whether those of the class token follow.
    """
    patches = jnp.moveaxis(found.patches, 1, 3)
    *lead, _, _ = patches.shape
    parts = [patches.reshape(*lead, -1)]
    if class_token:
        assert found.class_token is not None
        whole = found.class_token.reshape(len(patches), 1, 1, -1)
        parts.append(jnp.broadcast_to(whole, (*lead, whole.shape[-1])))
    return jnp.concatenate(parts, axis=-1).astype(jnp.float32)


def patch_tokens(
    network: VisionNetwork, params: Params, images: jax.Array, view: DenseView
) -> jax.Array:
    """What a view takes of a network's tokens, [B, rows, columns, F] float32.

    Args:
      network: that sees the images.
      params: of the network.
      images: [B, height, width, channels] in [0, 255].
      view: which tokens.
    """
    layers, _ = tokens_taken(network, view)
    _, found = network.with_layers(params, network.normalise(images), layers, normed=view.normed)
    return joined(found, class_token=view.class_token)
