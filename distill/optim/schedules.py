"""Learning-rate schedules as multipliers of the peak rate, in [0, 1]."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.bounds import Epochs, Examples, Percent, Steps, check_fields
from distill.optim.durations import RunLength, check_durations, steps

Multiplier = Callable[[jax.typing.ArrayLike], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The shape of the learning rate over a run.

    "Scaling Vision Transformers" (arXiv 2106.04560, §3.5): linear warmup, then `kind`, all
    multiplied by a linear cooldown to zero over the last `cooldown_steps`, so that a run
    without end can be branched into a finished model at any point.

    Warmup, time scale and cooldown are given in one unit each: steps, epochs, examples, or percent
    of the run.

    Raises:
      ValueError: for a negative duration or one in two units.
    """

    kind: Literal["rsqrt", "constant", "cosine", "linear"] = "rsqrt"
    warmup_steps: Steps | None = None
    """10,000 if warmup is not given in another unit."""
    warmup_epochs: Epochs | None = None
    warmup_examples: Examples | None = None
    warmup_percent: Percent | None = None
    timescale_steps: Steps | None = None
    """Of rsqrt: the multiplier is 1/√2 this long after warmup. 10,000 if not given otherwise."""
    timescale_epochs: Epochs | None = None
    timescale_examples: Examples | None = None
    timescale_percent: Percent | None = None
    cooldown_steps: Steps | None = None
    """0 if cooldown is not given in another unit."""
    cooldown_epochs: Epochs | None = None
    cooldown_examples: Examples | None = None
    cooldown_percent: Percent | None = None

    def __post_init__(self):
        check_fields(self)
        check_durations(self, "warmup", "timescale", "cooldown")

    def warmup(self, length: RunLength) -> int:
        """Steps until the peak is reached."""
        return steps(self, "warmup", length, default=10_000)

    def timescale(self, length: RunLength) -> int:
        """Steps after warmup until rsqrt has fallen to 1/√2.

        Raises:
          ValueError: if that is less than one step.
        """
        found = steps(self, "timescale", length, default=10_000)
        if found < 1:
            raise ValueError(f"timescale must be at least 1 step, not {found}")
        return found

    def cooldown(self, length: RunLength) -> int:
        """Steps of the linear cooldown at the end."""
        return steps(self, "cooldown", length, default=0)


def make_schedule(
    config: ScheduleConfig,
    total_steps: int,
    *,
    batch_size: int | None = None,
    images: int | None = None,
) -> Multiplier:
    """The multiplier as a function of the step (counted from 0), traceable by JAX.

    Args:
      config: what to build.
      total_steps: the run's length.
      batch_size: to count durations in examples or epochs.
      images: training images, to count durations in epochs.

    Raises:
      ValueError: if warmup and cooldown do not fit into `total_steps`, or a duration cannot be
        counted.
    """
    length = RunLength(total_steps, batch_size, images)
    warmup, cooldown = config.warmup(length), config.cooldown(length)
    timescale = config.timescale(length)
    if warmup + cooldown > total_steps:
        raise ValueError(
            f"warmup ({warmup}) and cooldown ({cooldown}) are longer than the run "
            f"({total_steps} steps); give them in a share of it, as warmup_percent and "
            "cooldown_percent"
        )
    span = max(total_steps - warmup, 1)

    def body(since_warmup: jax.Array) -> jax.Array:
        progress = jnp.clip(since_warmup / span, 0.0, 1.0)
        return {
            "rsqrt": lambda: jax.lax.rsqrt(1.0 + since_warmup / timescale),
            "constant": lambda: jnp.ones_like(since_warmup),
            "cosine": lambda: 0.5 * (1.0 + jnp.cos(np.pi * progress)),
            "linear": lambda: 1.0 - progress,
        }[config.kind]()

    def multiplier(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        value = body(jnp.maximum(step - warmup, 0.0))
        if warmup:
            value *= jnp.minimum(1.0, step / warmup)
        if cooldown:
            value *= jnp.clip((total_steps - step) / cooldown, 0.0, 1.0)
        return value

    return multiplier
