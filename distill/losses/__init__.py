"""What pre-training and matching compare by, and the terms that matching's loss is made of.

Functions map a batch to losses per example, [B] float32, of which the caller takes the mean. A term
of the matching loss is a `Term` in the `TERMS` of a module of this package: a new file adds one.
"""

from distill.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from distill.losses.features import cosine_distance, mean_squared_error
from distill.losses.kl import kl_divergence
from distill.losses.logits import euclidean_distance, squared_distance
from distill.losses.term import FEATURES, Term, known_terms

__all__ = [
    "FEATURES",
    "Term",
    "cosine_distance",
    "euclidean_distance",
    "kl_divergence",
    "known_terms",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_distance",
]
