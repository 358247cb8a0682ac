"""Losses per example, each [B] float32; the caller takes the mean."""

import jax
import jax.numpy as jnp

# Added to squared norms, so that a feature of zeros has a gradient.
_SMALLEST_NORM = 1e-12


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c [ y·log σ(z) + (1 − y)·log σ(−z) ] ("Scaling Vision Transformers", §3).

    Args:
      logits: [B, C].
      targets: [B, C], in [0, 1].
    """
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    terms = _weigh(targets, positive) + _weigh(1.0 - targets, negative)
    return -jnp.sum(terms, axis=-1)


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c y·log softmax(z).

    Args:
      logits: [B, C].
      targets: [B, C], distributions over the classes.
    """
    return -jnp.sum(_weigh(targets, jax.nn.log_softmax(logits)), axis=-1)


def kl_divergence(
    teacher_logits: jax.Array, student_logits: jax.Array, temperature: float = 1.0
) -> jax.Array:
    """T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) ) (arXiv 2106.05237, §3).

    Nothing is clipped, so that the gradient T·(softmax(z_s/T) − softmax(z_t/T)) is largest where
    the student is most wrong. A class to which the teacher gives no probability, such as one whose
    logit is −inf, adds nothing, whatever the student gives it. The factor T² keeps the gradient's
    scale independent of T (arXiv 1503.02531, §2).

    Args:
      teacher_logits: [B, C].
      student_logits: [B, C].
      temperature: T.
    """
    log_teacher = jax.nn.log_softmax(teacher_logits / temperature)
    log_student = jax.nn.log_softmax(student_logits / temperature)
    terms = _weigh(jnp.exp(log_teacher), log_teacher - log_student)
    return temperature**2 * jnp.sum(terms, axis=-1)


def squared_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """‖z_s − z_t‖², of vectors [B, D] ("Do Deep Nets Really Need to be Deep?", arXiv 1312.6184)."""
    return jnp.sum(jnp.square(student - teacher), axis=-1)


def euclidean_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """‖z_s − z_t‖, of vectors [B, D]; where both are equal, its gradient is 0."""
    squared = squared_distance(teacher, student)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def mean_squared_error(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean of squared differences, of features [B, …, D]."""
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def cosine_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """1 − cos of the angle between features [B, …, D]; of several vectors, the mean."""
    cosine = jnp.sum(_unit(teacher) * _unit(student), axis=-1)
    return 1.0 - jnp.mean(cosine, axis=tuple(range(1, cosine.ndim)))


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _SMALLEST_NORM)


def _weigh(probability: jax.Array, logarithm: jax.Array) -> jax.Array:
    """p·log q, 0 where p is: there log q may be −inf."""
    return probability * jnp.where(probability != 0, logarithm, 0.0)
