"""The vision transformer: one class for students and teachers, which differ in their block."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from distill.errors import check_choices
from distill.nn.embeddings import PatchEmbed, PositionEmbedding, patch_grid
from distill.nn.encoder import Encoder, SequentialBlock
from distill.nn.heads import ClassTokenHead, MapHead, MeanHead
from distill.nn.kernels import Kernel
from distill.nn.layers import Linear, zeros


class ViTOutput(NamedTuple):
    """What a vision transformer returns for B images."""

    logits: jax.Array
    """[B, C] float32; [B, 0] for a model without classifier."""
    embedding: jax.Array
    """[B, D], the pooled representation before the classifier, in the compute dtype."""
    tokens: jax.Array
    """[B, T, D], patch tokens after the final norm (no class token), in the compute dtype."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Every choice in a vision transformer. Defaults are those of arXiv 2106.04560.

    Raises:
      ValueError: if the choices contradict each other, such as an image size that is not a
        multiple of the patch size.
    """

    width: int
    depth: int
    mlp_dim: int
    heads: int
    patch_size: int
    image_size: int | tuple[int, int] = 224
    """Side of a square image, or (height, width), in pixels."""
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    """Of pixel values in [0, 1], taken off before the model sees them: for all channels or each."""
    std: tuple[float, ...] = (0.5,)
    """Of pixel values in [0, 1], by which they are then divided: for all channels or each."""
    num_classes: int = 1000
    """0 leaves the classifier out."""
    head: Literal["map", "gap", "cls"] = "map"
    position_embedding: Literal["learned", "sincos2d"] = "learned"
    qkv_bias: bool = True
    qk_norm: bool = False
    qk_norm_center: bool = False
    norm_bias: bool = True
    norm_center: bool = True
    classifier_bias: float = 0.0
    """Initial value; −10 for sigmoid cross-entropy over about 30k classes, −6.9 over 1000."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters, norms, softmax and logits are float32."""
    remat: Literal["none", "full", "dots", "offload"] = "none"
    """What the backward pass computes again: nothing, each block, or all but its products, which
    are kept on the device or in the memory of its host."""
    remat_keep: tuple[Literal["query", "key", "value", "hidden"], ...] = ()
    """With remat "full", results of these projections that are kept after all."""
    unroll: bool = False
    """Run the layers as straight-line code instead of a scan."""
    attention: Kernel = "auto"
    """How the encoder's attention is computed (`distill.nn.kernels`): by XLA, by the kernel of a
    GPU or TPU, or by the best that platform, dtype, tokens and head_dim allow. The head's single
    query always takes the plain one."""

    def __post_init__(self):
        check_choices(self)
        for name in ("width", "depth", "mlp_dim", "heads", "patch_size", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.channels):
                raise ValueError(
                    f"{name} must have one value, or one for each of {self.channels} channels, "
                    f"not {values}"
                )
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std must be positive, not {self.std}")
        if self.num_classes < 0:
            raise ValueError(f"num_classes must not be negative, not {self.num_classes}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.remat_keep and self.remat != "full":
            raise ValueError(f'remat_keep belongs to remat "full", not to {self.remat!r}')
        if self.position_embedding == "sincos2d" and self.width % 4:
            raise ValueError(f"sincos2d needs a width divisible by 4, not {self.width}")
        _ = self.grid

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images the model is built for."""
        size = self.image_size
        return (*((size, size) if isinstance(size, int) else size), self.channels)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return patch_grid(self.image_shape[:2], self.patch_size)

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
        self.channels = c.channels
        self.dtype = dtype
        self.patch_embed = PatchEmbed(c.patch_size, c.channels, c.width, dtype=dtype, rngs=rngs)
        self.position = PositionEmbedding(c.position_embedding, c.grid, c.width, rngs=rngs)
        self.class_token = (
            nnx.Param(jnp.zeros((1, 1, c.width)), axes=(None, None, "embed"))
            if c.head == "cls"
            else None
        )
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

    def __call__(self, images: jax.Array) -> ViTOutput:
        """Maps images [B, height, width, C], normalised, to logits, embedding and tokens.

        The images may have another size than the model was built for, as long as both sides are
        multiples of the patch size: the position embedding is interpolated.

        Raises:
          ValueError: for images of another rank, channel count or an indivisible size.
        """
        if images.ndim != 4 or images.shape[-1] != self.channels:
            raise ValueError(
                f"images have shape {images.shape}; expected [batch, height, width, "
                f"{self.channels}]"
            )
        x = self.position(self.patch_embed(images.astype(self.dtype)))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        if self.class_token is not None:
            token = self.class_token[...].astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], *token.shape[1:])), x], 1)
        x = self.encoder(x)
        embedding = self.head(x)
        if self.class_token is not None:
            x = x[:, 1:]
        if self.classifier is None:
            logits = jnp.zeros((images.shape[0], 0), jnp.float32)
        else:
            logits = self.classifier(embedding)
        return ViTOutput(logits, embedding, x)
