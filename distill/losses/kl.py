"""KL divergence between the probabilities that logits give."""

import jax
import jax.numpy as jnp

from distill.losses.cross_entropy import weigh
from distill.losses.term import Term


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
    terms = weigh(jnp.exp(log_teacher), log_teacher - log_student)
    return temperature**2 * jnp.sum(terms, axis=-1)


TERMS = (
    Term(
        name="kl",
        compares="logits",
        function=kl_divergence,
        description="T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) ), with matching.temperature for T",
        of_probabilities=True,
    ),
)
