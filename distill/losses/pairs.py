"""Terms of the matching loss in which texts take part; students and teachers are pairs."""

import jax

from distill.losses.contrastive import (
    Similarities,
    sigmoid_loss,
    sigmoid_matching,
    softmax_loss,
    softmax_matching,
)
from distill.losses.features import cosine_distance
from distill.losses.term import Term


def _softmax(same: jax.Array, student: Similarities, *, block: int | None) -> jax.Array:
    return softmax_loss(student, same, block=block)


def _sigmoid(same: jax.Array, student: Similarities, *, block: int | None) -> jax.Array:
    return sigmoid_loss(student, same, block=block)


TERMS = (
    Term(
        name="texts_cosine",
        compares="texts",
        function=cosine_distance,
        description="1 − cos of the angle between embeddings of texts",
        projected=False,
    ),
    Term(
        name="similarities_softmax",
        compares="similarities",
        function=softmax_matching,
        description="cross-entropies of a batch's images over its texts, and the other way round",
        mean_over_examples=False,
    ),
    Term(
        name="similarities_sigmoid",
        compares="similarities",
        function=sigmoid_matching,
        description="binary cross-entropies of all of a batch's images and texts",
        mean_over_examples=False,
    ),
    Term(
        name="captions_softmax",
        compares="captions",
        function=_softmax,
        description="CLIP's loss: which of a batch's texts belongs to an image, and the other way "
        "round",
        mean_over_examples=False,
    ),
    Term(
        name="captions_sigmoid",
        compares="captions",
        function=_sigmoid,
        description="SigLIP's loss: which of a batch's images and texts belong together",
        mean_over_examples=False,
    ),
)
