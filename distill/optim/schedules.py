"""Learning-rate schedules as multipliers of the peak rate, in [0, 1]."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import check_choices

Multiplier = Callable[[jax.typing.ArrayLike], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The shape of the learning rate over a run.

    "Scaling Vision Transformers" (arXiv 2106.04560, §3.5): linear warmup, then `kind`, all
    multiplied by a linear cooldown to zero over the last `cooldown_steps`, so that a run
    without end can be branched into a finished model at any point.

    Raises:
      ValueError: for negative durations, or no time scale where one is needed.
    """

    kind: Literal["rsqrt", "constant", "cosine", "linear"] = "rsqrt"
    warmup_steps: int = 10_000
    timescale: int = 10_000
    """Of rsqrt, in steps: the multiplier is 1/√2 this long after warmup."""
    cooldown_steps: int = 0

    def __post_init__(self):
        check_choices(self)
        for name in ("warmup_steps", "cooldown_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.timescale < 1:
            raise ValueError(f"timescale must be at least 1 step, not {self.timescale}")


def make_schedule(config: ScheduleConfig, total_steps: int) -> Multiplier:
    """The multiplier as a function of the step (counted from 0), traceable by JAX.

    Raises:
      ValueError: if warmup and cooldown do not fit into `total_steps`.
    """
    if config.warmup_steps + config.cooldown_steps > total_steps:
        raise ValueError(
            f"warmup ({config.warmup_steps}) and cooldown ({config.cooldown_steps}) are longer "
            f"than the run ({total_steps} steps)"
        )
    span = max(total_steps - config.warmup_steps, 1)

    def body(since_warmup: jax.Array) -> jax.Array:
        progress = jnp.clip(since_warmup / span, 0.0, 1.0)
        return {
            "rsqrt": lambda: jax.lax.rsqrt(1.0 + since_warmup / config.timescale),
            "constant": lambda: jnp.ones_like(since_warmup),
            "cosine": lambda: 0.5 * (1.0 + jnp.cos(np.pi * progress)),
            "linear": lambda: 1.0 - progress,
        }[config.kind]()

    def multiplier(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        value = body(jnp.maximum(step - config.warmup_steps, 0.0))
        if config.warmup_steps:
            value *= jnp.minimum(1.0, step / config.warmup_steps)
        if config.cooldown_steps:
            value *= jnp.clip((total_steps - step) / config.cooldown_steps, 0.0, 1.0)
        return value

    return multiplier
