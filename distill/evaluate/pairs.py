"""What evaluations of a pair have in common."""

from distill.data.tokens import Tokenizer
from distill.errors import UserError
from distill.nn import PairNetwork
from distill.subject import Subject


def pair_of(subject: Subject) -> tuple[PairNetwork, Tokenizer]:
    """The pair that is evaluated, and what makes tokens of texts for it.

    Raises:
      UserError: if the model is no pair, nothing says which tokens it takes, or they are others
        than its text tower's.
    """
    network, tokenizer = subject.network, subject.tokenizer
    if not isinstance(network, PairNetwork):
        raise UserError(
            f"the model in {subject.place} is no pair: it has no text tower to compare images with"
        )
    if tokenizer is None:
        raise UserError(
            f"nothing says how texts become tokens of the pair in {subject.place}; set "
            "config.data.captions.path and .family, or --tokenizer of published weights"
        )
    length = network.config.text.length
    if tokenizer.length != length:
        raise UserError(
            f"the tokenizer in {tokenizer.path} makes {tokenizer.length} tokens of a text, and the "
            f"text tower takes {length}; set {length}, as config.data.captions.length of a run"
        )
    return network, tokenizer
