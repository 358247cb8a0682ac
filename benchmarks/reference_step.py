"""The training step of the papers' reference implementation, built of flax.linen's own modules.

Written from the descriptions of "Scaling Vision Transformers" (arXiv 2106.04560) and "A good
teacher is patient and consistent" (arXiv 2106.05237), as big_vision builds its ViT: `nn.Conv` for
patches, `nn.LayerNorm`, `nn.MultiHeadDotProductAttention`, `nn.Dense` and `nn.gelu`, a learned
position embedding, a MAP or GAP head, optax's Adafactor or Adam. Its step is given what that
implementation's input pipeline makes: images in [−1, 1] and labels as distributions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from distill.nn import ViTConfig
from distill.nn.encoder import REMAT_POLICIES

Params = Any
Batch = dict[str, jax.Array]
State = dict[str, Any]


class MlpBlock(nn.Module):
    """Dense, GELU, Dense."""

    mlp_dim: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """Maps [B, T, D] to the same."""
        inits: dict[str, Any] = dict(
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(stddev=1e-6),
            dtype=self.dtype,
        )
        width = x.shape[-1]
        x = nn.gelu(nn.Dense(self.mlp_dim, **inits)(x))
        return nn.Dense(width, **inits)(x)


class EncoderBlock(nn.Module):
    """One pre-LN layer; returns what `nn.scan` asks for."""

    mlp_dim: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x, _=None):
        """Maps [B, T, D] to the same, and None."""
        y = nn.LayerNorm(dtype=self.dtype)(x)
        attention = nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype
        )
        x = x + attention(y, y)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        return x + MlpBlock(self.mlp_dim, self.dtype)(y), None


class MapHead(nn.Module):
    """A learned probe attends to the tokens, then an MLP."""

    mlp_dim: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """Maps [B, T, D] to [B, D]."""
        init = nn.initializers.xavier_uniform()
        probe = self.param("probe", init, (1, 1, x.shape[-1]), jnp.float32)
        probe = jnp.tile(probe, (x.shape[0], 1, 1))
        attention = nn.MultiHeadDotProductAttention(self.heads, kernel_init=init, dtype=self.dtype)
        x = attention(probe, x)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        return (x + MlpBlock(self.mlp_dim, self.dtype)(y))[:, 0]


class ReferenceViT(nn.Module):
    """Patches, position embedding, layers, final norm, head, classifier."""

    config: ViTConfig
    scanned: bool
    remat: str = "none"
    """One of `distill.nn.encoder.REMAT_POLICIES`, or `none`."""

    @nn.compact
    def __call__(self, images):
        """Maps images [B, height, width, C] to logits [B, classes]."""
        c, dtype = self.config, self.config.compute_dtype
        patch = (c.patch_size, c.patch_size)
        x = nn.Conv(c.width, patch, strides=patch, padding="VALID", dtype=dtype, name="patches")(
            images
        )
        x = x.reshape(len(x), -1, c.width)
        normal = nn.initializers.normal(stddev=c.width**-0.5)
        position = self.param("position", normal, (1, x.shape[1], c.width), jnp.float32)
        x = x + position.astype(dtype)
        block = EncoderBlock
        if self.remat != "none":
            policy = REMAT_POLICIES[self.remat]
            block = nn.remat(EncoderBlock, prevent_cse=not self.scanned, policy=policy)
        if self.scanned:
            # What flax says it takes is narrower than what it does.
            broadcast: Any = nn.broadcast
            layers = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=broadcast,
                length=c.depth,
            )
            x, _ = layers(c.mlp_dim, c.heads, dtype, name="blocks")(x, None)
        else:
            for layer in range(c.depth):
                x, _ = block(c.mlp_dim, c.heads, dtype, name=f"block_{layer}")(x)
        x = nn.LayerNorm(dtype=dtype, name="norm")(x)
        if c.head == "map":
            x = MapHead(c.mlp_dim, c.heads, dtype, name="head")(x)
        else:
            x = jnp.mean(x, axis=1)
        # Without a dtype, the classifier computes in that of its parameters.
        return nn.Dense(c.num_classes, kernel_init=nn.initializers.zeros, name="classifier")(x)


def reference_params(ours: Params, config: ViTConfig, scanned: bool) -> Params:
    """Parameters of this project's model, as those of `ReferenceViT`."""

    def norm(tree):
        return {"scale": tree["scale"], "bias": tree["bias"]}

    def attention(tree):
        return {part: dict(tree[part]) for part in ("query", "key", "value", "out")}

    def mlp(tree):
        return {"Dense_0": dict(tree["input"]), "Dense_1": dict(tree["output"])}

    blocks = ours["encoder"]["blocks"]
    stacked = {
        "LayerNorm_0": norm(blocks["attention_norm"]),
        "MultiHeadDotProductAttention_0": attention(blocks["attention"]),
        "LayerNorm_1": norm(blocks["mlp_norm"]),
        "MlpBlock_0": mlp(blocks["mlp"]),
    }
    found = {
        "patches": dict(ours["patch_embed"]["linear"]),
        "position": ours["position"]["table"].reshape(1, -1, config.width),
        "norm": norm(ours["encoder"]["norm"]),
        "classifier": dict(ours["classifier"]),
    }
    if scanned:
        found["blocks"] = stacked
    else:
        for layer in range(config.depth):
            found[f"block_{layer}"] = jax.tree.map(lambda x, i=layer: x[i], stacked)
    if config.head == "map":
        found["head"] = {
            "probe": ours["head"]["probe"],
            "MultiHeadDotProductAttention_0": attention(ours["head"]["attention"]),
            "LayerNorm_0": norm(ours["head"]["norm"]),
            "MlpBlock_0": mlp(ours["head"]["mlp"]),
        }
    return found


def reference_optimizer(name: str, rate: float, decay: float) -> optax.GradientTransformation:
    """optax's own pieces, with the constants of `distill.optim` as the benchmarks set it."""
    if name == "adafactor":
        moments = [
            optax.scale_by_factored_rms(min_dim_size_to_factor=32, epsilon=1e-30),
            optax.ema(0.9, debias=False, accumulator_dtype=jnp.bfloat16),
        ]
    else:
        moments = [optax.scale_by_adam(0.9, 0.999, mu_dtype=jnp.bfloat16)]

    def kernels(params):
        return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        *moments,
        optax.scale(rate),
        optax.add_decayed_weights(decay, mask=kernels),
        optax.scale_by_schedule(lambda count: -jnp.ones_like(count, jnp.float32)),
    )


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model that learns, perhaps from another."""

    student: ReferenceViT
    teacher: ReferenceViT | None
    optimizer: optax.GradientTransformation
    loss: str
    """`sigmoid` or `softmax`, of labels; without a teacher."""

    def step(self) -> Callable[[State, Params, Batch], tuple[State, dict[str, jax.Array]]]:
        """The step, to be compiled with its state donated."""
        compute = self._labels if self.teacher is None else self._matching

        def step(state, teacher, batch):
            gradient = jax.value_and_grad(compute)
            key = jax.random.fold_in(jax.random.key(0), state["step"])
            loss, grads = gradient(state["params"], *self._prepared(teacher, batch, key))
            updates, opt = self.optimizer.update(grads, state["opt"], state["params"])
            params = optax.apply_updates(state["params"], updates)
            figures = {
                "loss": loss,
                "grad_norm": optax.tree.norm(grads),
                "update_norm": optax.tree.norm(updates),
            }
            return {"params": params, "opt": opt, "step": state["step"] + 1}, figures

        return step

    def _prepared(self, teacher, batch, key):
        if self.teacher is None:
            return batch["image"], batch["targets"]
        share = jax.random.beta(key, 1.0, 1.0)
        share = jnp.maximum(share, 1.0 - share)
        images = batch["image"]
        mixed = share * images + (1.0 - share) * jnp.roll(images, 1, axis=0)
        return mixed, self.teacher.apply({"params": teacher}, mixed)

    def _labels(self, params, images, targets):
        logits: Any = self.student.apply({"params": params}, images)
        if self.loss == "softmax":
            return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))
        yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return -jnp.mean(jnp.sum(targets * yes + (1.0 - targets) * no, axis=-1))

    def _matching(self, params, images, answers):
        logits: Any = self.student.apply({"params": params}, images)
        ours, theirs = jax.nn.log_softmax(logits), jax.nn.log_softmax(answers)
        return jnp.mean(jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1))


def reference_batch(batch: Batch, classes: int) -> Batch:
    """What the reference's input pipeline makes of uint8 images and labels."""
    images = np.asarray(batch["image"]).astype(np.float32) / 127.5 - 1.0
    targets = np.eye(classes, dtype=np.float32)[np.asarray(batch["label"])]
    return {"image": jnp.asarray(images), "targets": jnp.asarray(targets)}
