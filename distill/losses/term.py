"""A term of the matching loss, as modules of this package declare it."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from distill.bounds import check_fields
from distill.modules import modules_in

FEATURES = ("logits", "embedding", "tokens", "layers", "texts", "similarities")
"""What of a model's output can be compared, in the order in which terms are summed up and
projections are drawn. Layers are the tokens after some of them; embeddings of texts and their
similarities to images are those of a pair."""

_PROJECTED = ("embedding", "tokens", "layers")

_BLOCKWISE = ("similarities", "captions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """What a student is compared with, and how.

    Raises:
      ValueError: if `compares` is nothing that can be compared.
    """

    name: str
    """Of its weight, `config.matching.losses.NAME`."""
    compares: Literal[
        "logits", "embedding", "tokens", "layers", "texts", "similarities", "labels", "captions"
    ]
    """What of the student's output with the same of a teacher's; "labels" compares logits with
    distributions over the classes, mixed as the images are, "captions" similarities with which
    texts are equal, int [B]."""
    function: Callable[..., jax.Array]
    """Maps target and student, float32 arrays of one shape that begins with the batch, to losses
    per example, [B], or to one for the batch, a scalar. Features that are not projected may differ
    in their last axis. Of similarities it is given `Similarities`, and as `block` how many texts
    to compare at once."""
    description: str
    """In one line, as the docs and `--help` have it."""
    of_probabilities: bool = False
    """Compares not the logits but the probabilities they give at a temperature, which `function`
    takes as its third argument."""
    projected: bool = True
    """Embeddings, tokens and layers of the student go through a learned projection into the
    teacher's space, which is no part of the finished model."""
    mean_over_examples: bool = True
    """The loss of a batch is the mean of those of its parts. Where it is not, as examples are
    compared with each other, the batch cannot be cut into microbatches."""

    def __post_init__(self):
        check_fields(self)

    @property
    def is_projected(self) -> bool:
        """Whether `function` is given features of the student in the teacher's space."""
        return self.projected and self.compares in _PROJECTED

    @property
    def of_texts(self) -> bool:
        """Whether it takes the texts that go with the images."""
        return self.compares in ("texts", *_BLOCKWISE)

    @property
    def of_teachers(self) -> bool:
        """Whether it compares with teachers, not with what the data says."""
        return self.compares not in ("labels", "captions")

    def __call__(
        self, target: Any, student: Any, temperature: float = 1.0, block: int | None = None
    ) -> jax.Array:
        """The loss of the batch, a scalar."""
        if self.compares in _BLOCKWISE:
            return self.function(target, student, block=block)
        arguments = (target, student, temperature) if self.of_probabilities else (target, student)
        return jnp.mean(self.function(*arguments))


@functools.cache
def known_terms() -> dict[str, Term]:
    """Every term that a module of `distill.losses` declares, by name, in the order of FEATURES.

    Raises:
      ValueError: if two have the same name.
    """
    found = [
        term for module in modules_in("distill.losses") for term in getattr(module, "TERMS", ())
    ]
    names = Counter(term.name for term in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two modules of distill.losses declare a term {', '.join(twice)}")
    found.sort(key=lambda term: (*FEATURES, "labels", "captions").index(term.compares))
    return {term.name: term for term in found}
