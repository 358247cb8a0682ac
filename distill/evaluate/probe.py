"""Linear probe: multinomial logistic regression on frozen features."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distill.analysis.linear import LinearClassifier, Standardisation, check_finite, row_blocks
from distill.parallel import batch_devices, batch_sharding, replicated

# Strongest first: each fit starts where the one before ended.
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

_ITERATIONS = 500
# A fit has converged when no entry of the gradient is larger, or when rounding leaves the line
# search no step.
_TOLERANCE, _SMALLEST_STEP = 1e-6, 1e-5
# Rows whose logits are in memory at once.
_BLOCK = 16384

# Kernel [D, C] and bias [C].
_Params = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A trained probe and the penalty it was trained with."""

    classifier: LinearClassifier
    l2: float


class _Examples(NamedTuple):
    """Rows in blocks over the mesh; those that fill up the last block have weight 0."""

    features: jax.Array
    """[blocks, rows, D], standardised."""
    labels: jax.Array
    """[blocks, rows]."""
    weights: jax.Array
    """[blocks, rows]."""


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    mesh: Mesh,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Probe:
    """Minimises mean cross-entropy + l2/2·‖kernel‖² over kernel and bias, by L-BFGS.

    Features are standardised by their own mean and standard deviation. The penalty is the one
    whose fit to nine tenths of the examples classifies the held-out tenth best (of equals, with
    the lowest cross-entropy); the probe is then fitted to all examples. Everything is computed in
    float32 on the mesh, each device holding its part of the examples.

    Args:
      features: [N, D] float32.
      labels: int [N].
      classes: C.
      mesh: whose devices compute; all processes must call it with the same arguments.
      penalties: candidates for l2, strongest first; a single one is taken as it is.
      seed: of the held-out tenth.

    Raises:
      RunFailed: if a feature is not finite.
    """
    check_finite(features)
    standardisation = Standardisation.of(features)
    # The line search takes steps of JAX's default precision.
    with jax.enable_x64(False):
        every = _place(features, labels, standardisation, mesh)
        l2, params = penalties[0], _start(mesh, features.shape[1], classes)
        if len(penalties) > 1:
            weights = _held_out(every, len(labels), mesh, seed)
            l2, params = _select(every, weights, params, penalties, mesh)
        kernel, bias = jax.device_get(minimise(params, every, l2, mesh))
    classifier = LinearClassifier(
        standardisation, kernel.astype(np.float64), bias.astype(np.float64)
    )
    return Probe(classifier, l2)


def _place(
    features: np.ndarray, labels: np.ndarray, standardisation: Standardisation, mesh: Mesh
) -> _Examples:
    """Cuts each block of examples over the mesh."""
    count, width = features.shape
    devices = batch_devices(mesh)
    size = -(-min(count, _BLOCK) // devices) * devices
    blocks = -(-count // size)
    standard = np.zeros((blocks * size, width), np.float32)
    for rows in row_blocks(count):
        standard[rows] = standardisation(features[rows])
    padding = (0, blocks * size - count)
    labels = np.pad(labels.astype(np.int32), padding)
    weights = np.pad(np.ones(count, np.float32), padding)
    return _Examples(
        *(_cut(a.reshape(blocks, size, *a.shape[1:]), mesh) for a in (standard, labels, weights))
    )


def held_out_count(count: int) -> int:
    """Of so many examples, the tenth that chooses the penalty."""
    return -(-count // 10)


def _held_out(examples: _Examples, count: int, mesh: Mesh, seed: int) -> jax.Array:
    """Weights of 1 for a tenth of the examples and 0 for the others."""
    weights = np.zeros(examples.weights.size, np.float32)
    weights[np.random.default_rng(seed).permutation(count)[: held_out_count(count)]] = 1.0
    return _cut(weights.reshape(examples.weights.shape), mesh)


def _cut(blocks: np.ndarray, mesh: Mesh) -> jax.Array:
    """Shards [blocks, rows, …] by rows; every process has all of it."""
    sharding = NamedSharding(mesh, PartitionSpec(None, *batch_sharding(mesh).spec))
    return jax.make_array_from_callback(blocks.shape, sharding, lambda index: blocks[index])


def _start(mesh: Mesh, width: int, classes: int) -> _Params:
    zeros = np.zeros((width, classes), np.float32), np.zeros(classes, np.float32)
    kernel, bias = (
        jax.make_array_from_callback(z.shape, replicated(mesh), lambda i, z=z: z[i]) for z in zeros
    )
    return kernel, bias


def _select(
    every: _Examples, weights: jax.Array, params: _Params, penalties: Sequence[float], mesh: Mesh
) -> tuple[float, _Params]:
    """The penalty that is best on what `weights` holds out, and the parameters of its fit."""
    held_out = every._replace(weights=weights)
    training = every._replace(weights=every.weights - weights)
    tried = []
    for l2 in penalties:
        params = minimise(params, training, l2, mesh)
        accuracy, cross_entropy = jax.device_get(_scores(params, held_out))
        tried.append(((float(accuracy), -float(cross_entropy)), l2, params))
    _, l2, params = max(tried, key=lambda found: found[0])
    return l2, params


@functools.partial(jax.jit, static_argnames="mesh")
def minimise(params: _Params, examples: _Examples, l2: float, mesh: Mesh) -> _Params:
    """The parameters at the minimum, starting from `params`, on all devices."""

    def objective(params):
        total, _ = _sums(params, examples)
        penalty = l2 / 2 * jnp.sum(jnp.square(params[0]))
        return total / jnp.sum(examples.weights) + penalty

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry):
        params, state = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = solver.update(
            gradient, state, params, value=value, grad=gradient, value_fn=objective
        )
        params = optax.apply_updates(params, updates)
        return jax.lax.with_sharding_constraint(params, replicated(mesh)), state

    def go_on(carry):
        _, state = carry
        count, gradient, size = (
            optax.tree.get(state, key) for key in ("count", "grad", "learning_rate")
        )
        steep = optax.tree.norm(gradient, ord=jnp.inf) > _TOLERANCE
        return (count == 0) | ((count < _ITERATIONS) & steep & (size > _SMALLEST_STEP))

    params, _ = jax.lax.while_loop(go_on, step, (params, solver.init(params)))
    return params


@jax.jit
def _scores(params: _Params, examples: _Examples) -> tuple[jax.Array, jax.Array]:
    """Accuracy and mean cross-entropy."""
    cross_entropy, correct = _sums(params, examples)
    count = jnp.sum(examples.weights)
    return correct / count, cross_entropy / count


def _sums(params: _Params, examples: _Examples) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and number of correct examples; a block's logits are in memory at a time."""
    kernel, bias = params

    @jax.checkpoint
    def add(totals, block):
        features, labels, weights = block
        logits = jnp.matmul(features, kernel, precision="highest") + bias
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        correct = jnp.argmax(logits, axis=-1) == labels
        sums = jnp.sum(weights * losses), jnp.sum(weights * correct)
        return jax.tree.map(jnp.add, totals, sums), None

    totals, _ = jax.lax.scan(add, (jnp.zeros(()), jnp.zeros(())), examples)
    return totals
