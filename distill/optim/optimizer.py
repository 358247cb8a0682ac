"""The optimiser a config asks for, as one optax transformation on plain dicts."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distill.bounds import NotAll, NotNegative, Positive, ProperShare, SomeShare, check_fields
from distill.optim.adafactor import FactoredState, factored_axes, scale_by_factored_rms
from distill.optim.layer_decay import layer_multipliers
from distill.optim.rules import match_rules
from distill.optim.schedules import Multiplier


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates: p ← p − s(t)·(lr·m·u + wd·p), with s the schedule.

    Settings by parameter are (regex, value) pairs: the first regex found in a parameter's name
    wins, and one that decides nothing is an error. Names may be of single blocks, such as
    "encoder/blocks/3/mlp/input/kernel"; see `distill.optim.rules.match_rules`.

    Raises:
      ValueError: for rates that are not positive or decays that are negative.
    """

    name: Literal["adafactor", "adam", "sgd"] = "adafactor"
    """Adafactor and Adam keep their first moment in bfloat16. Adafactor's is not debiased and its
    second is factored (arXiv 2106.04560, §3.4). SGD has momentum, in float32."""
    learning_rate: Positive = 8e-4
    """lr, at the schedule's peak."""
    learning_rate_multipliers: tuple[tuple[str, NotNegative], ...] = ()
    """m by parameter; 1 where nothing matches."""
    layer_decay: SomeShare | None = None
    """What m is multiplied by for each layer below the head: d^(L − i) in block i of L, from 0, and
    d^(L + 1) in the embeddings before them (arXiv 2106.08254); None is 1."""
    weight_decay: tuple[tuple[str, NotNegative], ...] = ()
    """wd by parameter; 0 where nothing matches. It is absolute: multiplied by the schedule but not
    by lr or m, as in the reference implementation."""
    freeze: tuple[tuple[str, bool], ...] = ()
    """Whether a parameter keeps the value it starts with; False where nothing matches. A frozen one
    has no moments, and no gradient is computed for it; of blocks that are stacked, where all are
    frozen."""
    average_decay: ProperShare | None = None
    """Of a moving average of the weights (Polyak), which is then what is evaluated and what a
    checkpoint offers to readers; None does not average."""
    b1: NotAll = 0.9
    """Decay of the first moment; SGD's momentum."""
    b2: NotAll = 0.999
    """Adam's; Adafactor's grows as 1 − (t + 1)^−0.8 up to 0.999."""
    clip_norm: Positive | None = 1.0
    """Global norm that gradients are clipped to, first of all; None does not clip."""

    def __post_init__(self):
        check_fields(self)


def make_optimizer(
    config: OptimizerConfig, schedule: Multiplier, params: Any, axes: Any = None
) -> optax.GradientTransformation:
    """Clipping, moments, learning rates, weight decay, schedule, in this order.

    Frozen parameters take no part in any of it and get updates of zero, if their gradients are.

    Args:
      config: what to build.
      schedule: multiplier in [0, 1] as a function of the step.
      params: the parameters or their `jax.ShapeDtypeStruct`s, for the rules to match.
      axes: a tree like `params` with each one's logical axes; None if nothing is stacked.

    Raises:
      ValueError: for a rule that decides nothing, if all parameters are frozen, or for layer_decay
        without stacked blocks.
    """
    trained = trained_params(config, params, axes)
    decays = _setting(config, "weight_decay", params, axes, default=0.0)
    multipliers = _setting(config, "learning_rate_multipliers", params, axes, default=1.0)
    if config.layer_decay is not None:
        by_layer = layer_multipliers(config.layer_decay, params, axes)
        multipliers = jax.tree.map(operator.mul, multipliers, by_layer)
    steps = []
    if trained is not None:
        decays = jax.tree.map(operator.mul, trained, decays)
        has_moments = jax.tree.map(lambda keep: bool(np.any(keep)), trained)
        trained, decays, multipliers = (
            _only(has_moments, values) for values in (trained, decays, multipliers)
        )
        axes = axes and _only(has_moments, axes)
        # The frozen blocks of a stack must not count in the norm.
        if any(isinstance(keep, np.ndarray) for keep in jax.tree.leaves(trained)):
            steps.append(_by_parameter(lambda g, p, keep: jnp.where(keep, g, 0), trained))
    if config.clip_norm is not None:
        # Adafactor clips by itself, in fewer passes; the step has its place in the state.
        clips = config.name == "adafactor"
        steps.append(optax.identity() if clips else optax.clip_by_global_norm(config.clip_norm))
    if config.name == "adafactor":
        steps.append(scale_by_factored_rms(axes, clip_norm=config.clip_norm))
        steps.append(_moving_average(config.b1))
    elif config.name == "adam":
        steps.append(optax.scale_by_adam(config.b1, config.b2, mu_dtype=jnp.bfloat16))
    else:
        steps.append(optax.trace(config.b1))
    steps.append(optax.scale(config.learning_rate))
    if any(np.any(m != 1) for m in jax.tree.leaves(multipliers)):
        steps.append(_by_parameter(lambda u, p, m: m * u, multipliers))
    if any(np.any(wd) for wd in jax.tree.leaves(decays)):
        steps.append(_by_parameter(lambda u, p, wd: u + wd * p if np.any(wd) else u, decays))
    steps.append(optax.scale_by_schedule(lambda count: -schedule(count)))
    chain = optax.chain(*steps)
    return chain if trained is None else optax.masked(chain, has_moments)


def trained_params(config: OptimizerConfig, params: Any, axes: Any = None) -> Any | None:
    """A tree like `params` that says which are trained; None if none is frozen.

    Where some of the blocks of a stack are frozen, it has an array of bools that broadcasts over
    the parameter.

    Args:
      config: whose `freeze` says so.
      params: the parameters or their `jax.ShapeDtypeStruct`s.
      axes: a tree like `params` with each one's logical axes; None if nothing is stacked.

    Raises:
      ValueError: for a rule that decides nothing, or if all parameters are frozen.
    """
    frozen = _setting(config, "freeze", params, axes, default=False)
    if not any(np.any(f) for f in jax.tree.leaves(frozen)):
        return None
    if all(np.all(f) for f in jax.tree.leaves(frozen)):
        raise ValueError("freeze leaves nothing to train")
    return jax.tree.map(lambda f: ~f if isinstance(f, np.ndarray) else not f, frozen)


def _setting(config: OptimizerConfig, name: str, params: Any, axes: Any, default: Any) -> Any:
    try:
        return match_rules(getattr(config, name), params, default, axes)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _only(trained: Any, tree: Any) -> Any:
    """`tree` as `optax.masked` shows it to what it wraps."""
    return jax.tree.map(lambda keep, x: x if keep else optax.MaskedNode(), trained, tree)


def state_axes(state: Any, params: Any, axes: Any) -> Any:
    """A tree like an optimiser's state with the logical axes of each array in it.

    Args:
      state: of `make_optimizer`'s optimiser, as arrays or `jax.ShapeDtypeStruct`s.
      params: the parameters, alike.
      axes: a tree like `params` with each one's logical axes.
    """

    def of_moments(tree, moments):
        """The part of a tree like `params` that has moments: frozen parameters have none."""
        if isinstance(moments, dict):
            return {key: of_moments(tree[key], moments[key]) for key in moments}
        return moments if isinstance(moments, optax.MaskedNode) else tree

    def axes_of(node):
        if isinstance(node, FactoredState):
            return factored_axes(of_moments(params, node.full), of_moments(axes, node.full))
        return of_moments(axes, node) if isinstance(node, dict) else (None,) * node.ndim

    return jax.tree.map(axes_of, state, is_leaf=lambda node: isinstance(node, dict | FactoredState))


def _moving_average(decay: float) -> optax.GradientTransformation:
    """m ← decay·m + (1 − decay)·u, not debiased, stored in bfloat16 and computed in float32.

    `optax.ema` multiplies in bfloat16, which rounds twice.
    """

    def init(params):
        return optax.tree.zeros_like(params, dtype=jnp.bfloat16)

    def update(updates, state, params=None):
        del params
        averaged = jax.tree.map(
            lambda u, m: decay * m.astype(jnp.float32) + (1.0 - decay) * u, updates, state
        )
        return averaged, optax.tree.cast(averaged, jnp.bfloat16)

    return optax.GradientTransformation(init, update)


def _by_parameter(function: Callable[..., jax.Array], values: Any) -> optax.GradientTransformation:
    """Maps each update u of a parameter p with its own value v to function(u, p, v).

    Arrays of values are of float64 until they are rounded to what they are applied to.
    """

    def one(update, parameter, value):
        if isinstance(value, np.ndarray) and value.dtype != bool:
            value = value.astype(update.dtype)
        return function(update, parameter, value)

    def update(updates, state, params=None):
        return jax.tree.map(one, updates, params, values), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
