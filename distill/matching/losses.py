"""Losses per example, each [B] float32; the caller takes the mean."""

import jax
import jax.numpy as jnp

_SMALLEST_PROBABILITY = 1e-8


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c [ y·log σ(z) + (1 − y)·log σ(−z) ] ("Scaling Vision Transformers", §3).

    Args:
      logits: [B, C].
      targets: [B, C], in [0, 1].
    """
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -jnp.sum(targets * positive + (1.0 - targets) * negative, axis=-1)


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c y·log softmax(z).

    Args:
      logits: [B, C].
      targets: [B, C], distributions over the classes.
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def kl_divergence(
    teacher_logits: jax.Array, student_logits: jax.Array, temperature: float = 1.0
) -> jax.Array:
    """T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) ) (arXiv 2106.05237, §3).

    Probabilities are clipped at 1e-8, as in the reference implementation; where the student gives
    a class less than that, the class sends it no gradient of its own. The factor T² keeps the
    gradient's scale independent of T (arXiv 1503.02531, §2).

    Args:
      teacher_logits: [B, C].
      student_logits: [B, C].
      temperature: T.
    """
    teacher = jax.nn.softmax(teacher_logits / temperature)
    log_teacher = jnp.log(jnp.maximum(teacher, _SMALLEST_PROBABILITY))
    log_student = jnp.maximum(
        jax.nn.log_softmax(student_logits / temperature), jnp.log(_SMALLEST_PROBABILITY)
    )
    return temperature**2 * jnp.sum(teacher * (log_teacher - log_student), axis=-1)
