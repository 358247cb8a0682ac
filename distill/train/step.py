"""The one training step, for every pipeline."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from distill.nn import Params
from distill.train.state import STEP_STREAM, TrainState

Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Any, dict[str, jax.Array]], tuple[TrainState, Metrics]]


class Task(Protocol):
    """What a pipeline trains for."""

    def prepare(self, frozen: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
        """Everything the loss needs that no gradient flows through: inputs and targets.

        Args:
          frozen: parameters that are not trained, such as a teacher's; None if there are none.
          batch: `image` uint8 [B, height, width, C], `label` int32 [B], `index`, `mask`.
          key: of this step.
        """

    def loss(self, params: Params, prepared: Any) -> tuple[jax.Array, Metrics]:
        """The mean loss over the batch, and scalars to log."""


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    seed: int,
    placement: TrainState | None = None,
) -> Step:
    """The jitted update; it consumes (donates) the state it is given.

    Args:
      task: what to train for.
      optimizer: on the parameters' tree.
      seed: of the run.
      placement: a state of shardings, in which the new state is returned. Left to itself, the
        compiler may place the new state elsewhere than the old; on one device it cannot.
    """

    def train_step(state, frozen, batch):
        stream = jax.random.fold_in(jax.random.key(seed), STEP_STREAM)
        key = jax.random.fold_in(stream, state.step)
        prepared = task.prepare(frozen, batch, key)
        (loss, metrics), grads = jax.value_and_grad(task.loss, has_aux=True)(state.params, prepared)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        metrics = metrics | norms | {"loss": loss}
        metrics = jax.tree.map(lambda m: m.astype(jnp.float32), metrics)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(placement, None))
