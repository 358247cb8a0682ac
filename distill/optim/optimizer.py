"""The optimiser a config asks for, as one optax transformation on plain dicts."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from distill.errors import check_choices
from distill.optim.adafactor import FactoredState, factored_axes, scale_by_factored_rms
from distill.optim.rules import match_rules
from distill.optim.schedules import Multiplier


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates: p ← p − s(t)·(lr·u + wd·p), with s the schedule.

    Raises:
      ValueError: for rates that are not positive or decays that are negative.
    """

    name: Literal["adafactor", "adam"] = "adafactor"
    """Both keep their first moment in bfloat16. Adafactor's is not debiased and its second is
    factored (arXiv 2106.04560, §3.4)."""
    learning_rate: float = 8e-4
    """lr, at the schedule's peak."""
    weight_decay: tuple[tuple[str, float], ...] = ()
    """(regex, wd) pairs, first match wins, unmatched parameters do not decay. wd is absolute: it
    is multiplied by the schedule but not by lr, as in the reference implementation."""
    b1: float = 0.9
    b2: float = 0.999
    """Adam's; Adafactor's grows as 1 − (t + 1)^−0.8 up to 0.999."""
    clip_norm: float | None = 1.0
    """Global norm that gradients are clipped to, first of all; None does not clip."""

    def __post_init__(self):
        check_choices(self)
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive or None, not {self.clip_norm}")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for pattern, decay in self.weight_decay:
            if decay < 0:
                raise ValueError(f"weight decay of {pattern!r} must not be negative: {decay}")


def make_optimizer(
    config: OptimizerConfig, schedule: Multiplier, params: Any, axes: Any = None
) -> optax.GradientTransformation:
    """Clipping, moments, learning rate, weight decay, schedule, in this order.

    Args:
      config: what to build.
      schedule: multiplier in [0, 1] as a function of the step.
      params: the parameters or their `jax.ShapeDtypeStruct`s, for the rules to match.
      axes: a tree like `params` with each one's logical axes.

    Raises:
      ValueError: for a rule that matches no parameter.
    """
    steps = []
    if config.clip_norm is not None:
        steps.append(optax.clip_by_global_norm(config.clip_norm))
    if config.name == "adafactor":
        steps.append(scale_by_factored_rms(axes))
        steps.append(_moving_average(config.b1))
    else:
        steps.append(optax.scale_by_adam(config.b1, config.b2, mu_dtype=jnp.bfloat16))
    steps.append(optax.scale(config.learning_rate))
    decays = match_rules(config.weight_decay, params, default=0.0)
    if any(jax.tree.leaves(decays)):
        steps.append(_add_weight_decay(decays))
    steps.append(optax.scale_by_schedule(lambda count: -schedule(count)))
    return optax.chain(*steps)


def state_axes(state: Any, params: Any, axes: Any) -> Any:
    """A tree like an optimiser's state with the logical axes of each array in it.

    Args:
      state: of `make_optimizer`'s optimiser, as arrays or `jax.ShapeDtypeStruct`s.
      params: the parameters, alike.
      axes: a tree like `params` with each one's logical axes.
    """
    structure = jax.tree.structure(params)

    def is_moments(node):
        return isinstance(node, FactoredState) or jax.tree.structure(node) == structure

    def axes_of(node):
        if isinstance(node, FactoredState):
            return factored_axes(params, axes)
        if jax.tree.structure(node) == structure:
            return axes
        return (None,) * node.ndim

    return jax.tree.map(axes_of, state, is_leaf=is_moments)


def _moving_average(decay: float) -> optax.GradientTransformation:
    """m ← decay·m + (1 − decay)·u, not debiased, stored in bfloat16 and computed in float32.

    `optax.ema` multiplies in bfloat16, which rounds twice.
    """

    def init(params):
        return optax.tree.zeros_like(params, dtype=jnp.bfloat16)

    def update(updates, moments, params=None):
        del params
        averaged = jax.tree.map(
            lambda u, m: decay * m.astype(jnp.float32) + (1.0 - decay) * u, updates, moments
        )
        return averaged, optax.tree.cast(averaged, jnp.bfloat16)

    return optax.GradientTransformation(init, update)


def _add_weight_decay(decays: Any) -> optax.GradientTransformation:
    """Adds each parameter times its own decay."""

    def update(updates, state, params):
        return jax.tree.map(lambda u, p, d: u + d * p if d else u, updates, params, decays), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
