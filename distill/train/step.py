"""The one training step, for every pipeline."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from distill.nn import Params
from distill.parallel.compiling import compiled, ordered_options
from distill.parallel.microbatches import cut
from distill.startup import STARTUP
from distill.train.state import STEP_STREAM, TrainState

Metrics = dict[str, jax.Array]
States = dict[str, TrainState]
Step = Callable[[TrainState, Any, dict[str, jax.Array]], tuple[TrainState, Metrics]]
JointStep = Callable[[States, Any, dict[str, jax.Array]], tuple[States, dict[str, Metrics]]]


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A joint step, and the bytes that it takes on each device."""

    run: JointStep
    argument_bytes: int
    """Of the states, what is frozen and the batch."""
    extra_bytes: int
    """Beside the arguments: temporaries, and results that take no argument's place."""
    prepare_bytes: int
    """The part of them that is taken before any update; 0 where it is not known apart."""
    copied_bytes: int = 0
    """Of the states, which are given away, what the new ones do not take the place of."""

    def __call__(self, states: States, frozen: Any, batch: dict[str, jax.Array]) -> Any:
        """The new states and the learners' metrics."""
        return self.run(states, frozen, batch)


class Task(Protocol):
    """What a pipeline trains for."""

    @property
    def needs_labels(self) -> bool:
        """Whether every image must have one."""
        ...

    @property
    def training_only(self) -> tuple[str, ...]:
        """Top-level names of parameters that are no part of the finished model.

        Such as projections; a network that does not have them trains without.
        """
        ...

    @property
    def mean_over_examples(self) -> bool:
        """Whether the loss of a batch is the mean of those of its parts.

        A loss that compares examples with each other is not, and takes its batches whole.
        """
        ...

    def prepare(self, frozen: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
        """Everything the loss needs that no gradient flows through: inputs and targets.

        Arrays begin with the batch; what belongs to all examples alike is a
        `distill.parallel.microbatches.Whole`.

        Args:
          frozen: parameters that are not trained, such as a teacher's; None if there are none.
          batch: `image` uint8 [B, height, width, C], `label` int32 [B], `index`, `mask`; and
            `step`, int32 [], how many steps were done before.
          key: of this step.
        """
        ...

    def loss(self, params: Params, prepared: Any) -> tuple[jax.Array, Metrics]:
        """The loss of the batch and scalars to log.

        It is computed for the whole batch of a step, however many devices share it: what compares
        examples with each other compares those of all devices, and the compiler moves what that
        takes.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Learner:
    """A network in training: what for, and how it is updated."""

    task: Task
    optimizer: optax.GradientTransformation
    """On the parameters' tree."""
    trained: Params | None = None
    """Which parameters get a gradient, a tree of bools or, of stacks of which some blocks do,
    arrays of them that broadcast; None is all."""
    average_decay: float | None = None
    """Of the state's moving average; a state without one needs none."""
    learning_rate: Callable[[jax.Array], jax.Array] | None = None
    """Of a step, counted from 0, to log; None logs none."""


def make_train_step(
    learner: Learner,
    seed: int,
    placement: TrainState | None = None,
    *,
    microbatches: int = 1,
) -> Step:
    """The jitted update of a state; it consumes (donates) the state it is given.

    Args:
      learner: what to train.
      seed: of the run.
      placement: a state of shardings, in which the new state is returned. Left to itself, the
        compiler may place the new state elsewhere than the old; on one device it cannot.
      microbatches: parts of the batch whose gradients are computed one after another and averaged,
        so that only one part's activations are in memory. What the task prepares, a teacher's
        outputs among it, is prepared for the whole batch at once.

    Raises:
      ValueError: for several microbatches of a loss that is no mean over examples.
    """
    update = _make_update(learner, microbatches, placement and placement.params)

    def train_step(state, frozen, batch):
        return update(state, prepare(learner.task, seed, state.step, frozen, batch))

    where: Any = placement and placement.step
    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(placement, None),
        compiler_options=ordered_options(where and where.mesh),
    )


def compile_joint_step(
    learners: Mapping[str, Learner],
    seed: int,
    states: States,
    frozen: Any,
    batch: dict[str, jax.Array],
    *,
    microbatches: int = 1,
    repeat_after: int | None = None,
) -> CompiledStep:
    """`make_train_step` for several states, by name, compiled for arguments like these.

    Learners share the batch and what is prepared from it, and nothing else: each is updated as it
    would be alone.

    On CPUs, to the last bit: what is prepared and each update are programs of their own there, so
    that none compiles to something else beside other learners, or where targets are read that a
    teacher gave elsewhere. Accelerators get one program, whose parts the compiler can overlap.

    Args:
      learners: what to train; their tasks prepare the same.
      seed: of the run.
      states: on the mesh, where the new ones are returned as well.
      frozen: parameters that are not trained.
      batch: of the first step.
      microbatches: parts of the batch.
      repeat_after: steps after which batches come again, and with them the draws of `prepare`.

    Raises:
      ValueError: for several microbatches of a loss that is no mean over examples.
    """
    first = next(iter(learners))
    placements = jax.tree.map(lambda leaf: leaf.sharding, states)
    held = held_bytes((states, frozen, batch))
    updates = {
        name: _make_update(learner, microbatches, placements[name].params)
        for name, learner in learners.items()
    }

    def begin(frozen, batch, step):
        step = step if repeat_after is None else step % repeat_after
        return prepare(learners[first].task, seed, step, frozen, batch)

    def train_step(states, frozen, batch, begin=begin, updates=updates):
        prepared = begin(frozen, batch, states[first].step)
        done = {name: update(states[name], prepared) for name, update in updates.items()}
        return (
            {name: state for name, (state, _) in done.items()},
            {name: metrics for name, (_, metrics) in done.items()},
        )

    mesh = placements[first].step.mesh
    if mesh.devices.flat[0].platform != "cpu":
        step = jax.jit(train_step, donate_argnums=0, out_shardings=(placements, None))
        whole = _compiled(mesh, step, states, frozen, batch)
        return CompiledStep(whole, held, _extra(whole), 0, _copied(whole, states))
    arguments = (frozen, batch, states[first].step)
    beginning = _compiled(mesh, jax.jit(begin), *arguments)
    prepared = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        jax.eval_shape(begin, *arguments),
        beginning.output_shardings,
    )
    programs = {
        name: _compiled(
            mesh,
            jax.jit(update, donate_argnums=0, out_shardings=(placements[name], None)),
            states[name],
            prepared,
        )
        for name, update in updates.items()
    }
    # What is prepared is there during every update.
    preparing, updating = _extra(beginning), max(_extra(one) for one in programs.values())
    return CompiledStep(
        functools.partial(train_step, begin=beginning, updates=programs),
        argument_bytes=held,
        extra_bytes=max(preparing, held_bytes(prepared) + updating),
        prepare_bytes=preparing,
        copied_bytes=sum(_copied(one, states[name]) for name, one in programs.items()),
    )


def _compiled(mesh: Mesh, function: Any, *arguments: Any) -> jax.stages.Compiled:
    """The program of a jitted function for arguments like these, on the devices of `mesh`."""
    with STARTUP.during("trace"), warnings.catch_warnings():
        # `copied_bytes` has what it costs.
        warnings.filterwarnings("ignore", "Some donated buffers were not usable")
        lowered = function.lower(*arguments)
    with STARTUP.during("compile"):
        return compiled(lowered, mesh)


def held_bytes(tree: Any) -> int:
    """Bytes of arrays, or of their shapes with shardings, on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _extra(program: jax.stages.Compiled) -> int:
    """Bytes that a program takes on each device beside its arguments; 0 where it does not say."""
    found = program.memory_analysis()
    if found is None:
        return 0
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.temp_size_in_bytes + results


def _copied(compiled: jax.stages.Compiled, donated: Any) -> int:
    """Bytes on each device of what a program was given that no result takes the place of."""
    found = compiled.memory_analysis()
    return 0 if found is None else max(held_bytes(donated) - found.alias_size_in_bytes, 0)


def prepare(
    task: Task, seed: int, step: jax.Array | int, frozen: Any, batch: dict[str, jax.Array]
) -> Any:
    """What `task` prepares in a step of a run."""
    return task.prepare(frozen, batch | {"step": jnp.asarray(step)}, step_key(seed, step))


def step_key(seed: int, step: jax.Array | int) -> jax.Array:
    """The key of everything that is drawn in a step, counted from 0, of a run."""
    stream = jax.random.fold_in(jax.random.key(seed), STEP_STREAM)
    return jax.random.fold_in(stream, step)


def check_microbatches(task: Task, microbatches: int) -> None:
    """Checks that batches may be cut up.

    Raises:
      ValueError: for several microbatches of a loss that is no mean over examples.
    """
    if microbatches > 1 and not task.mean_over_examples:
        raise ValueError(
            f"microbatches is {microbatches}, and the loss compares the examples of a whole batch "
            "with each other, so that it is no mean over parts; set --config.train.microbatches=1"
        )


def _make_update(learner: Learner, microbatches: int, placement: Params | None) -> Callable:
    """One learner's update, from its state and what is prepared to its new state and metrics."""
    check_microbatches(learner.task, microbatches)

    def loss(params, prepared):
        params = params if learner.trained is None else _stop(params, learner.trained)
        return learner.task.loss(params, prepared)

    gradient = jax.value_and_grad(loss, has_aux=True)
    if microbatches > 1:
        gradient = _accumulate(gradient, microbatches, placement)
    one_cpu = _is_one_cpu(placement)

    def update(state, prepared):
        (loss, metrics), grads = gradient(state.params, prepared)
        updates, opt_state = learner.optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        norms = {"grad_norm": optax.tree.norm(grads), "update_norm": optax.tree.norm(updates)}
        if one_cpu:
            params = _after(norms["update_norm"], params, state.params)
        metrics = metrics | norms | {"loss": loss}
        if learner.learning_rate is not None:
            metrics |= {"learning_rate": learner.learning_rate(state.step)}
        metrics = jax.tree.map(lambda m: m.astype(jnp.float32), metrics)
        average = state.average
        if average is not None:
            average = _move(average, params, learner, state.step)
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return update


def _is_one_cpu(placement: Params | None) -> bool:
    leaves = jax.tree.leaves(placement)
    return bool(leaves) and all(
        one.num_devices == 1 and next(iter(one.device_set)).platform == "cpu" for one in leaves
    )


def _after(norm: jax.Array, new: Params, old: Params) -> Params:
    """`new`, which is there once the updates' norm is; `old` where that is not a number.

    The updates depend on the parameters: without this, XLA for CPUs copies all of them in every
    step, so that the norm could also be computed when they have been overwritten.
    """
    known = norm == norm
    return jax.tree.map(lambda new, old: jnp.where(known, new, old), new, old)


def _stop(params: Params, trained: Params) -> Params:
    """Cuts frozen parameters off the gradient, so that nothing is computed for them."""
    frozen = jax.tree.map(jax.lax.stop_gradient, params)
    return _where(trained, params, frozen)


def _where(trained: Params, new: Params, old: Params) -> Params:
    """`new` where parameters are trained, else `old`."""

    def choose(keep, new, old):
        return jnp.where(keep, new, old) if isinstance(keep, np.ndarray) else new if keep else old

    return jax.tree.map(choose, trained, new, old)


def _move(average: Params, params: Params, learner: Learner, step: jax.Array) -> Params:
    """a ← d·a + (1 − d)·p with d = min(decay, (1 + t)/(10 + t)), t updates done before from 0.

    The second term lets the average forget where it began, which with `decay` alone would take
    1/(1 − decay) steps (`num_updates` of TensorFlow's ExponentialMovingAverage). Frozen parameters
    are their own average, to the last bit.
    """
    if learner.average_decay is None:
        raise ValueError("the state has an average, and the learner no average_decay to move it by")
    done = step.astype(jnp.float32)
    decay = jnp.minimum(learner.average_decay, (1.0 + done) / (10.0 + done))
    moved = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
    return moved if learner.trained is None else _where(learner.trained, moved, average)


def _accumulate(gradient: Callable, microbatches: int, placement: Params | None) -> Callable:
    """`gradient` as the mean over microbatches, whose gradients are summed where they live."""

    def keep(grads):
        if placement is None:
            return grads
        return jax.tree.map(jax.lax.with_sharding_constraint, grads, placement)

    def accumulated(params, prepared):
        def add(total, microbatch):
            value, grads = gradient(params, join(microbatch))
            return jax.tree.map(jnp.add, total, (value, keep(grads))), None

        parts, join = cut(prepared, microbatches)
        first = join([x[0] for x in parts])
        shapes = jax.eval_shape(gradient, params, first)
        value, grads = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(add, (value, keep(grads)), parts)
        return jax.tree.map(lambda x: x / microbatches, total)

    return accumulated
