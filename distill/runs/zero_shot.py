"""Published pairs as classifiers whose classes are texts, and the tokens their text towers read."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.data.prompts import ClassTokens, PromptsConfig, classes_in, described
from distill.data.tokens import Tokenizer, open_tokenizer
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.nn import PairNetwork, Params, VisionNetwork, ZeroShotNetwork
from distill.nn.zero_shot import class_vectors, classifier_params
from teachers.pretrained import PublishedPair, PublishedText


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotConfig(PromptsConfig):
    """Which classes a pair tells apart, and by which texts; docs/image_text.md.

    Raises:
      ValueError: if nothing names a class.
    """

    classes: tuple[str, ...] = ()
    """The classes by the names the data has for them; empty takes those of `class_names`."""

    def __post_init__(self):
        if not self.classes and self.class_names is None:
            raise ValueError(
                "class_names, a file, or classes has to name the classes that are told apart"
            )

    def open(self, pair: "PublishedPair | RunPair", tokenizer: Tokenizer) -> "PublishedZeroShot":
        """The classifier that a pair is with these classes.

        Raises:
          UserError: if names or templates cannot be read, or are of other classes.
        """
        names = self.classes
        if not names and self.class_names:
            names = classes_in(Path(self.class_names))
        texts = self.texts(self.names(names), tokenizer)
        network = ZeroShotNetwork.of(pair.image.network, pair.network.config, len(names))
        tokens = self.tokens(texts, tokenizer, pair.network.config.text.vocab)
        return PublishedZeroShot(network, pair, names, self.about(texts, tokenizer), tokens)


@dataclasses.dataclass(frozen=True)
class RunTower:
    """The image tower of a run's pair."""

    network: VisionNetwork
    family: str


@dataclasses.dataclass(frozen=True)
class RunPair:
    """A pair that a run trained, as one that was published is there."""

    network: PairNetwork
    image: RunTower
    view: EvaluationView
    """What of an image it is to be shown."""
    tokenizer: Tokenizer
    """What made tokens of the run's texts."""
    _read: Callable[[str], Params]

    def read(self, dtype: str = "float32") -> Params:
        """The parameters of the run's checkpoint, nested dicts of NumPy arrays.

        Raises:
          UserError: if there is none.
        """
        return self._read(dtype)


@dataclasses.dataclass(frozen=True)
class PublishedZeroShot:
    """A pair as a classifier, its file checked but for the values of its tensors."""

    network: VisionNetwork
    """At the resolution and with the normalisation it is to be fed with."""
    pair: PublishedPair | RunPair
    class_names: tuple[str, ...]
    """In the order of the logits."""
    about: dict[str, Any]
    """Of what its class vectors are made, as JSON can hold it."""
    _tokens: ClassTokens

    @property
    def view(self) -> EvaluationView:
        """What of an image it is to be shown."""
        return self.pair.view

    @property
    def family(self) -> str:
        """Of the image tower."""
        return self.pair.image.family

    @property
    def described(self) -> str:
        """Of what its class vectors are made, in words."""
        return described(self.about)

    def read(self, dtype: str = "float32") -> Params:
        """The parameters; class vectors are computed of the text tower's, on this process's device.

        Raises:
          UserError: if the file is damaged or its numbers are not floating-point or not finite.
        """
        params = self.pair.read(dtype)
        vectors = class_vectors(self.pair.network, params, *self._tokens)
        return classifier_params(params, vectors)


def zero_shot_about(published: object) -> dict[str, Any]:
    """As `zeroshot`, what class vectors were made of; nothing of a model that has none."""
    return {"zeroshot": published.about} if isinstance(published, PublishedZeroShot) else {}


def text_tokenizer(
    text: PublishedPair | PublishedText, weights: Path, path: str | None
) -> Tokenizer:
    """Makes tokens by the rule of a text tower's family, of the length it was trained with.

    Args:
      text: the tower, or a pair with it.
      weights: its file or directory.
      path: of the vocabulary; None takes the one that lies beside the weights.

    Raises:
      UserError: if there is none, or it is another family's.
    """
    where = path or str(weights if weights.is_dir() else weights.parent)
    try:
        return open_tokenizer(where, family=text.family, length=text.length)
    except UserError as error:
        if path is not None:
            raise
        raise UserError(
            f"{error}. Give weights.tokenizer (--tokenizer), the vocabulary that the text tower "
            "was trained with"
        ) from error
