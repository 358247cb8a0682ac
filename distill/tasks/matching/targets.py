"""Teachers' outputs as they are stored, and read again in place of asking the teachers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.bounds import SomeClasses, check_fields
from distill.errors import RunFailed

Answers = dict[str, dict[str, jax.Array]]
"""What teachers make of a view, by logits, embedding or tokens and by teacher."""

# Names of the parts of logits of which only the largest are kept.
_TOP, _CLASSES, _REST = "top", "classes", "rest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetFormat:
    """How teachers' outputs are stored.

    Raises:
      ValueError: for a number of classes that is not positive.
    """

    dtype: Literal["float16", "float32"] = "float16"
    """float32 keeps every bit."""
    top_k: SomeClasses | None = None
    """Keep this many of the most probable classes, and the mass of the rest; None keeps all
    logits."""

    def __post_init__(self):
        check_fields(self)


def encode(answers: Answers, form: TargetFormat) -> dict[str, jax.Array]:
    """The arrays to store of a batch, by name; each begins with the batch.

    Of classes kept apart, log-probabilities are stored, and that of all the rest together.

    Raises:
      ValueError: if there are no more classes than are to be kept.
    """
    return {
        name: values.astype(form.dtype) if _is_float(values) else values
        for name, values in _parts(answers, form).items()
    }


def magnitudes(answers: Answers, form: TargetFormat) -> dict[str, jax.Array]:
    """The largest absolute value of each example, [B] float32, in every array to store.

    Not a number where one of the values is not.
    """
    return {
        name: jnp.max(jnp.abs(values), axis=tuple(range(1, values.ndim))).astype(jnp.float32)
        for name, values in _parts(answers, form).items()
        if _is_float(values)
    }


def check_storable(
    largest: Mapping[str, np.ndarray], form: TargetFormat, describe: Callable[[int], str]
) -> None:
    """Checks that what is to be stored is finite, and finite as it is stored.

    Args:
      largest: what `magnitudes` found of a batch.
      form: how it is stored.
      describe: names the image of a row.

    Raises:
      RunFailed: naming the first image of which it is not.
    """
    for name, values in largest.items():
        with np.errstate(over="ignore"):
            sound = np.isfinite(values.astype(form.dtype))
        if sound.all():
            continue
        row = int(np.argmin(sound))
        if not np.isfinite(values[row]):
            raise RunFailed(f"{name} of {describe(row)} is not finite; check the teacher")
        raise RunFailed(
            f"{name} of {describe(row)} is as large as {values[row]:.4g}, and {form.dtype} holds "
            f"no more than {np.finfo(form.dtype).max:.4g}; set config.store.dtype=float32"
        )


def _parts(answers: Answers, form: TargetFormat) -> dict[str, jax.Array]:
    """The arrays to store, as they are computed."""
    arrays = {}
    for feature, by_teacher in answers.items():
        for teacher, values in by_teacher.items():
            name = f"{feature}/{teacher}"
            if feature != "logits" or form.top_k is None:
                arrays[name] = values
                continue
            if form.top_k >= values.shape[-1]:
                raise ValueError(
                    f"top_k is {form.top_k}, of {values.shape[-1]} classes; keep fewer, or with "
                    "top_k=none all logits"
                )
            top, classes, rest = _split(values.astype(jnp.float32), form.top_k)
            arrays[f"{name}/{_TOP}"] = top
            arrays[f"{name}/{_CLASSES}"] = classes
            arrays[f"{name}/{_REST}"] = rest
    return arrays


def _is_float(values: jax.Array) -> bool:
    return jnp.issubdtype(values.dtype, jnp.floating)


def decode(arrays: Mapping[str, jax.Array], classes: int) -> Answers:
    """What `encode` stored, float32; classes that were not kept share the rest evenly.

    Spreading the rest evenly is the "marginal smoothing" of "A Fast Knowledge Distillation
    Framework for Visual Recognition" (arXiv 2112.01528, §3.2). Such logits are log-probabilities.

    Args:
      arrays: by name.
      classes: of the teachers.
    """
    answers: Answers = {}
    for name, values in arrays.items():
        feature, teacher, *part = name.split("/")
        if part in ([_CLASSES], [_REST]):
            continue
        values = values.astype(jnp.float32)
        if part == [_TOP]:
            whole = f"{feature}/{teacher}"
            rest = arrays[f"{whole}/{_REST}"].astype(jnp.float32)
            values = _join(values, arrays[f"{whole}/{_CLASSES}"], rest, classes)
        answers.setdefault(feature, {})[teacher] = values
    return answers


def features_of(arrays: Mapping[str, object]) -> set[str]:
    """Which of logits, embedding and tokens are stored, by the names of the arrays."""
    return {name.split("/")[0] for name in arrays}


def _split(logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-probabilities [B, k] of the k most probable classes, their numbers, and the rest's."""
    log_probabilities = jax.nn.log_softmax(logits)
    top, classes = jax.lax.top_k(log_probabilities, k)
    others = log_probabilities.at[jnp.arange(len(logits))[:, None], classes].set(-jnp.inf)
    return top, classes.astype(jnp.int32), jax.nn.logsumexp(others, axis=-1)


def _join(top: jax.Array, classes: jax.Array, rest: jax.Array, count: int) -> jax.Array:
    each = rest - jnp.log(count - top.shape[-1])
    spread = jnp.broadcast_to(each[:, None], (len(top), count))
    return spread.at[jnp.arange(len(top))[:, None], classes].set(top)
