"""A transformer over the embeddings of a clip's frames, trained on embeddings that are stored.

The temporal part of ViViT's factorised encoder (arXiv 2103.15691, section 3.3, model 2), whose
spatial part is here a frozen model.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from distill.analysis.linear import row_blocks
from distill.errors import RunFailed
from distill.nn import Network, Params
from distill.nn.encoder import Encoder, SequentialBlock
from distill.nn.kernels import Kernel
from distill.nn.layers import Activation, Linear, zeros
from distill.optim import ScheduleConfig, make_schedule
from distill.parallel import in_flight

WIDEST = 1536
"""Of the transformer, where its width is not given; wider embeddings are mapped to it."""

# ViViT's recipe on Kinetics has 30 epochs, of which the first 2.5 warm up.
_WARMUP_PERCENT = 100 / 12
_HEAD_DIM = 64
# Clips whose classes are predicted at once.
_BLOCK = 256

normal = jax.nn.initializers.normal(stddev=0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """The shape of a transformer over frames.

    Raises:
      ValueError: if the heads do not divide the width, or a size is less than 1.
    """

    features: int
    """D, of a frame's embedding."""
    frames: int
    classes: int
    width: int
    depth: int
    heads: int
    mlp_dim: int

    # What its blocks do not choose: as ViT's.
    qkv_bias = True
    qk_norm = False
    qk_norm_center = False
    norm_bias = True
    norm_center = True
    norm_epsilon = 1e-6
    gated = False
    layer_scale = False

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(
                    f"{field.name} must be at least 1, not {getattr(self, field.name)}"
                )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")

    @property
    def activation(self) -> Activation:
        """Of MLPs."""
        return "gelu_tanh"

    @property
    def attention(self) -> Kernel:
        """XLA's, as clips are short."""
        return "plain"

    @property
    def compute_dtype(self) -> jnp.dtype:
        """Of everything."""
        return jnp.dtype(jnp.float32)

    @classmethod
    def of(
        cls,
        features: int,
        frames: int,
        classes: int,
        *,
        width: int | None = None,
        depth: int = 4,
        heads: int | None = None,
    ) -> Self:
        """As wide as the embedding, up to `WIDEST`, with heads of about 64 and MLPs of 4 widths.

        Raises:
          ValueError: as the class.
        """
        width = min(features, WIDEST) if width is None else width
        if heads is None:
            most = max(1, width // _HEAD_DIM)
            heads = next(count for count in range(most, 0, -1) if width % count == 0)
        return cls(
            features=features,
            frames=frames,
            classes=classes,
            width=width,
            depth=depth,
            heads=heads,
            mlp_dim=4 * width,
        )


class TemporalTransformer(nnx.Module):
    """Embeddings → a class token before them → positions → pre-LN blocks → norm → classifier.

    Positions are learned, drawn from N(0, 0.02); class token and classifier begin at zero.
    """

    def __init__(self, config: TemporalConfig, *, rngs: nnx.Rngs):
        c = self.config = config
        self.projection = (
            Linear({"features": c.features}, {"embed": c.width}, rngs=rngs)
            if c.features != c.width
            else None
        )
        self.class_token = nnx.Param(
            jnp.zeros((1, 1, c.width), jnp.float32), axes=(None, None, "embed")
        )
        self.position = nnx.Param(
            normal(rngs.params(), (c.frames + 1, c.width), jnp.float32), axes=("positions", "embed")
        )
        self.encoder = Encoder(
            c, lambda rngs: SequentialBlock(c, rngs=rngs), depth=c.depth, rngs=rngs
        )
        self.classifier = Linear(
            {"embed": c.width}, {"classes": c.classes}, kernel_init=zeros, rngs=rngs
        )

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """Maps the embeddings of clips, float32 [B, T, D], to logits [B, C]."""
        x = embeddings if self.projection is None else self.projection(embeddings)
        token = jnp.broadcast_to(self.class_token[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.position[...]
        return self.classifier(self.encoder(x)[:, 0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalTraining:
    """How the transformer is trained: AdamW, clipped to norm 1, warm-up of a twelfth, cosine."""

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int


def temporal_network(config: TemporalConfig) -> Network:
    """The transformer as functions of its parameters, on the devices its inputs are on."""
    return Network(config, TemporalTransformer)


def fit_temporal(
    network: Network,
    training: TemporalTraining,
    batches: Callable[[int], tuple[np.ndarray, np.ndarray]],
) -> Params:
    """Minimises the mean cross-entropy of batches, on one device of each process.

    Args:
      network: of `temporal_network`.
      training: for how long, and how.
      batches: of each step, clips float32 [B, T, D] and labels int [B]; the same on all processes.

    Raises:
      RunFailed: if the loss is not finite.
    """
    start, step = _programs(network, training)
    # As JAX has it by default, whatever a caller has set.
    with jax.enable_x64(False):
        params, state = start()

        def losses() -> Iterator[jax.Array]:
            nonlocal params, state
            for number in range(training.steps):
                params, state, loss = step(params, state, *batches(number))
                yield loss

        for number, loss in enumerate(in_flight(losses())):
            if not np.isfinite(loss):
                raise RunFailed(
                    f"the loss of the temporal transformer is {loss} at step {number + 1} of "
                    f"{training.steps}; lower its learning_rate"
                )
    return params


@functools.lru_cache(maxsize=8)
def _programs(network: Network, training: TemporalTraining) -> tuple[Callable, Callable]:
    """What makes parameters and the optimiser's state, and what makes a step of them."""
    schedule = make_schedule(
        ScheduleConfig(kind="cosine", warmup_percent=_WARMUP_PERCENT), training.steps
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            lambda step: training.learning_rate * schedule(step),
            weight_decay=training.weight_decay,
        ),
    )

    @jax.jit
    def start():
        params = network.init(jax.random.key(training.seed))
        return params, optimizer.init(params)

    def loss_of(params, clips, labels):
        logits = network.apply(params, clips)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, clips, labels):
        loss, gradients = jax.value_and_grad(loss_of)(params, clips, labels)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    return start, step


def class_probabilities(
    network: Network, params: Params, clips: Callable[[slice], np.ndarray], count: int
) -> np.ndarray:
    """The softmax of clips' logits, float64 [N, C].

    Args:
      network: of `temporal_network`.
      params: its parameters.
      clips: of a slice of at most 256 clips, their embeddings, float32 [n, T, D].
      count: N, of all clips.
    """
    found = np.empty((count, network.config.classes))
    size = min(count, _BLOCK)
    logits = _forward(network)
    with jax.enable_x64(False):
        for rows in row_blocks(count, _BLOCK):
            block = clips(rows)
            # Of one shape, so that it is compiled once.
            padded = np.pad(block, ((0, size - len(block)), (0, 0), (0, 0)))
            z = np.asarray(logits(params, padded), np.float64)[: len(block)]
            shares = np.exp(z - z.max(axis=1, keepdims=True))
            found[rows] = shares / shares.sum(axis=1, keepdims=True)
    return found


@functools.lru_cache(maxsize=8)
def _forward(network: Network) -> Callable:
    return jax.jit(network.apply)
