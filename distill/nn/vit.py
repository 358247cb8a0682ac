"""The vision transformer: one class for students and teachers, which differ in their block."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from distill.bounds import Between, Classes, Depth, Positive, Real, Side, Width, check_fields
from distill.config import how_it_runs
from distill.nn.embeddings import (
    Grid,
    PatchEmbed,
    PositionEmbedding,
    Rotation,
    patch_grid,
    rotary2d,
)
from distill.nn.encoder import Encoder, SequentialBlock, make_norm
from distill.nn.execution import Remat, Unroll
from distill.nn.heads import ClassTokenHead, MapHead, MeanHead
from distill.nn.kernels import Kernel
from distill.nn.layers import Activation, Kept, Linear, zeros


class ViTOutput(NamedTuple):
    """What a vision transformer returns for B images."""

    logits: jax.Array
    """[B, C] float32; [B, 0] for a model without classifier."""
    embedding: jax.Array
    """[B, D], the pooled representation before the classifier, in the compute dtype."""
    tokens: jax.Array
    """[B, T, D], patch tokens after the final norm (no class token or registers), in the compute
    dtype."""


class LayerTokens(NamedTuple):
    """The tokens of B images after K layers, in the compute dtype."""

    patches: jax.Array
    """[B, K, rows, columns, D]."""
    class_token: jax.Array | None
    """[B, K, D]; None of a model without one."""
    registers: jax.Array | None
    """[B, K, R, D]; None of a model without any."""


def check_layers(layers: tuple[int, ...], depth: int) -> None:
    """Checks the numbers of layers.

    Raises:
      ValueError: for one that is not there, or twice.
    """
    if len(set(layers)) < len(layers):
        raise ValueError(f"each layer may be named once, not {layers}")
    if wrong := [layer for layer in layers if not 1 <= layer <= depth]:
        raise ValueError(f"there is no layer {wrong[0]}; layers are numbered from 1 to {depth}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Every choice in a vision transformer. Defaults are those of arXiv 2106.04560.

    Raises:
      ValueError: if the choices contradict each other, such as an image size that is not a
        multiple of the patch size.
    """

    width: Width
    depth: Depth
    mlp_dim: Width
    heads: Width
    patch_size: Side
    image_size: Side | tuple[Side, Side] = 224
    """Side of a square image, or (height, width), in pixels."""
    channels: Annotated[int, Between(1, 2**10)] = 3
    mean: tuple[Real, ...] = (0.5,)
    """Of pixel values in [0, 1], taken off before the model sees them: for all channels or each."""
    std: tuple[Positive, ...] = (0.5,)
    """Of pixel values in [0, 1], by which they are then divided: for all channels or each."""
    num_classes: Classes = 1000
    """0 leaves the classifier out."""
    head: Literal["map", "gap", "cls"] = "map"
    distilled: bool = False
    """DeiT's distillation token is the first register and has a classifier of its own: embedding
    and logits are the means of both tokens' (arXiv 2012.12877)."""
    registers: Annotated[int, Between(0, 2**14)] = 0
    """Tokens behind the class token that are no patches and are dropped at the end."""
    position_embedding: Literal["learned", "sincos2d", "rotary"] = "learned"
    rotary_base: Positive = 100.0
    """Of the wavelengths of "rotary"; see `distill.nn.embeddings.rotary2d`."""
    pre_norm: bool = False
    """A LayerNorm over all tokens before the first block, as CLIP has it."""
    qkv_bias: bool = True
    qk_norm: bool = False
    qk_norm_center: bool = False
    norm_bias: bool = True
    norm_center: bool = True
    norm_epsilon: Positive = 1e-6
    """Of LayerNorms over tokens."""
    activation: Activation = "gelu_tanh"
    """In MLPs: GELU in its tanh form, exactly, or as x·σ(1.702x); SiLU."""
    gated: bool = False
    """The encoder's MLPs have a gate (SwiGLU with "silu")."""
    layer_scale: bool = False
    """A learned factor for each feature of every branch (arXiv 2103.17239)."""
    classifier_bias: Real = 0.0
    """Initial value; −10 for sigmoid cross-entropy over about 30k classes, −6.9 over 1000."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters, norms, softmax and logits are float32."""
    remat: Remat = how_it_runs("auto")
    """What the backward pass computes again: nothing, each block (full), or all but its products,
    which are kept on the device (dots) or in the memory of its host (offload); auto chooses by
    platform, depth and memory."""
    remat_keep: tuple[Kept, ...] = how_it_runs(())
    """With remat "full", what is kept on the device after all; with "offload", what alone goes to
    the memory of its host. See `distill.nn.layers.Kept`."""
    unroll: Unroll = how_it_runs("auto")
    """Run the layers as straight-line code instead of a scan; auto does so where it is faster."""
    attention: Kernel = how_it_runs("auto")
    """How the encoder's attention is computed (`distill.nn.kernels`): by XLA, by the kernel of a
    GPU or TPU, or by the best that platform, dtype, tokens and head_dim allow. The head's single
    query always takes the plain one."""

    def __post_init__(self):
        # Of a family's config files, sides are one number; programs may give any family two.
        check_fields(self, image_size=Side | tuple[Side, Side])
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.channels):
                raise ValueError(
                    f"{name} must have one value, or one for each of {self.channels} channels, "
                    f"not {values}"
                )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.remat_keep and self.remat not in ("full", "offload"):
            raise ValueError(
                f'remat_keep belongs to remat "full" and "offload", not to {self.remat!r}'
            )
        if self.position_embedding == "sincos2d" and self.width % 4:
            raise ValueError(f"sincos2d needs a width divisible by 4, not {self.width}")
        if self.position_embedding == "rotary" and self.width // self.heads % 4:
            raise ValueError(
                f"rotary needs a head of 4·n dimensions, not {self.width // self.heads}"
            )
        if self.distilled and (self.head != "cls" or not self.registers):
            raise ValueError('distilled needs head="cls" and a register, the distillation token')
        _ = self.grid

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images the model is built for."""
        size = self.image_size
        return (*((size, size) if isinstance(size, int) else size), self.channels)

    @property
    def embedding_width(self) -> int:
        """Of the pooled representation."""
        return self.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return patch_grid(self.image_shape[:2], self.patch_size)

    @property
    def sequence_length(self) -> int:
        """Tokens in the encoder: patches and what stands in front of them."""
        return math.prod(self.grid) + self.prefix

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches: the class token and registers."""
        return (self.head == "cls") + self.registers

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX knows it."""
        return jnp.dtype(self.dtype)


def _make_head(c: ViTConfig, rngs: nnx.Rngs) -> nnx.Module:
    if c.head == "gap":
        return MeanHead()
    if c.head == "cls":
        return ClassTokenHead()
    return MapHead(
        c.width,
        c.mlp_dim,
        c.heads,
        norm_bias=c.norm_bias,
        norm_center=c.norm_center,
        norm_epsilon=c.norm_epsilon,
        activation=c.activation,
        dtype=c.compute_dtype,
        rngs=rngs,
    )


def _make_classifier(c: ViTConfig, rngs: nnx.Rngs) -> Linear:
    bias = jax.nn.initializers.constant(c.classifier_bias)
    return Linear(
        {"embed": c.width},
        {"classes": c.num_classes},
        kernel_init=zeros,
        bias_init=bias,
        rngs=rngs,
    )


def _make_registers(c: ViTConfig, rngs: nnx.Rngs) -> nnx.Param:
    # As in DINOv2's reference implementation: registers that begin the same would stay so.
    drawn = 1e-6 * jax.random.normal(rngs.params(), (1, c.registers, c.width), jnp.float32)
    return nnx.Param(drawn, axes=(None, None, "embed"))


class VisionTransformer(nnx.Module):
    """Patches → position embedding → encoder → head → classifier.

    `block` builds one encoder layer from the configuration; `teachers.vit_22b` brings its own.
    There is no non-linear projection before the classifier, whose kernel starts at zero.
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        block: Callable[..., nnx.Module] = SequentialBlock,
        rngs: nnx.Rngs,
    ):
        c, dtype = config, config.compute_dtype
        self.config = c
        self.patch_embed = PatchEmbed(c.patch_size, c.channels, c.width, dtype=dtype, rngs=rngs)
        self.position = PositionEmbedding(c.position_embedding, c.grid, c.width, rngs=rngs)
        self.class_token = (
            nnx.Param(jnp.zeros((1, 1, c.width), jnp.float32), axes=(None, None, "embed"))
            if c.head == "cls"
            else None
        )
        self.registers = _make_registers(c, rngs) if c.registers else None
        self.pre_norm = make_norm(c) if c.pre_norm else None
        self.encoder = Encoder(
            c,
            lambda rngs: block(c, rngs=rngs),
            depth=c.depth,
            remat=c.remat,
            remat_keep=c.remat_keep,
            unroll=c.unroll,
            rngs=rngs,
        )
        self.head = _make_head(c, rngs)
        self.classifier = _make_classifier(c, rngs) if c.num_classes else None
        self.distillation_classifier = (
            _make_classifier(c, rngs) if c.num_classes and c.distilled else None
        )

    def __call__(self, images: jax.Array) -> ViTOutput:
        """Maps images [B, height, width, C], normalised, to logits, embedding and tokens.

        The images may have another size than the model was built for, as long as both sides are
        multiples of the patch size: the position embedding is interpolated.

        Raises:
          ValueError: for images of another rank, channel count or an indivisible size.
        """
        x, _, _ = self._encoded(images, ())
        return self._output(x)

    def with_layers(
        self, images: jax.Array, layers: tuple[int, ...], *, normed: bool = True
    ) -> tuple[ViTOutput, LayerTokens]:
        """What a call returns, and the tokens after K layers, computed at once.

        Args:
          images: as of a call.
          layers: numbers from 1, that of the first block, to the depth; each once.
          normed: whether each layer's tokens go through the encoder's final norm, as those of a
            call do.

        Raises:
          ValueError: as of a call; for layers that there are not, or twice.
        """
        check_layers(layers, self.config.depth)
        x, kept, grid = self._encoded(images, layers)
        kept = jnp.moveaxis(kept, 0, 1)
        if normed:
            kept = self.encoder.norm(kept)
        c = self.config
        patches = kept[:, :, c.prefix :].reshape(*kept.shape[:2], *grid, c.width)
        has_class = c.head == "cls"
        tokens = LayerTokens(
            patches=patches,
            class_token=kept[:, :, 0] if has_class else None,
            registers=kept[:, :, has_class : c.prefix] if c.registers else None,
        )
        return self._output(x), tokens

    def largest_attention_logits(self, images: jax.Array) -> jax.Array:
        """The largest |q·k|/√K in each of the encoder's layers, float32 [B, depth].

        Args:
          images: as of a call.

        Raises:
          ValueError: as of a call.
        """
        x, rotation, _ = self._embedded(images)
        return self.encoder.largest_logits(x, rotation).T

    def _encoded(
        self, images: jax.Array, layers: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array, Grid]:
        """All tokens after the final norm, those after some layers, and the grid of patches."""
        x, rotation, grid = self._embedded(images)
        return (*self.encoder.with_layers(x, layers, rotation), grid)

    def _embedded(self, images: jax.Array) -> tuple[jax.Array, Rotation | None, Grid]:
        """All tokens before the first layer, what turns queries and keys, and the grid."""
        c = self.config
        if images.ndim != 4 or images.shape[-1] != c.channels:
            raise ValueError(
                f"images have shape {images.shape}; expected [batch, height, width, {c.channels}]"
            )
        x = self.position(self.patch_embed(images.astype(c.compute_dtype)))
        _, rows, columns, _ = x.shape
        rotation = None
        if c.position_embedding == "rotary":
            rotation = rotary2d((rows, columns), c.width // c.heads, c.rotary_base)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for front in (self.registers, self.class_token):
            if front is not None:
                front = jnp.broadcast_to(front[...], (x.shape[0], *front.shape[1:]))
                x = jnp.concatenate([front.astype(x.dtype), x], 1)
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        return x, rotation, (rows, columns)

    def _output(self, x: jax.Array) -> ViTOutput:
        """Of all tokens after the final norm, [B, T, D]."""
        c = self.config
        tokens = x[:, c.prefix :] if c.prefix else x
        embedding = self.head(x if c.head == "cls" else tokens)
        if self.classifier is None:
            logits = jnp.zeros((x.shape[0], 0), jnp.float32)
        else:
            logits = self.classifier(embedding)
        if c.distilled:
            distilled = jax.lax.index_in_dim(x, 1, axis=1, keepdims=False)
            embedding = (embedding + distilled) / 2
            if self.distillation_classifier is not None:
                logits = (logits + self.distillation_classifier(distilled)) / 2
        return ViTOutput(logits, embedding, tokens)
