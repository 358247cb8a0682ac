"""What pre-training and matching compare by, and the terms that matching's loss is made of.

Functions map a batch to losses per example, [B] float32, of which the caller takes the mean; those
of images and texts (`contrastive`), which compare all with all, to one for the batch. A term of the
matching loss is a `Term` in the `TERMS` of a module of this package: a new file adds one.
"""

from distill.losses.contrastive import (
    Similarities,
    found_in_batch,
    number_texts,
    sigmoid_loss,
    sigmoid_matching,
    softmax_loss,
    softmax_matching,
)
from distill.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from distill.losses.features import cosine_distance, mean_squared_error, smooth_l1
from distill.losses.gram import gram_distance
from distill.losses.kl import kl_divergence
from distill.losses.logits import euclidean_distance, squared_distance
from distill.losses.term import FEATURES, Term, known_terms

__all__ = [
    "FEATURES",
    "Similarities",
    "Term",
    "cosine_distance",
    "euclidean_distance",
    "found_in_batch",
    "gram_distance",
    "kl_divergence",
    "known_terms",
    "mean_squared_error",
    "number_texts",
    "sigmoid_cross_entropy",
    "sigmoid_loss",
    "sigmoid_matching",
    "smooth_l1",
    "softmax_cross_entropy",
    "softmax_loss",
    "softmax_matching",
    "squared_distance",
]
