"""Text towers of published weights, in a pair or alone."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from distill.errors import UserError
from distill.names.rules import ADDED_POSITIONS
from distill.nn import Params, TextNetwork, TextTransformer
from distill.tensor_files import TensorFile
from teachers.pretrained import big_vision, huggingface_text
from teachers.pretrained.load import open_weights
from teachers.pretrained.match import Source, TextDescription, blame, match_all
from teachers.pretrained.read import nested, read_sources, shapes_by_name
from teachers.pretrained.settings import Settings, what_it_has
from teachers.pretrained.wrappers import Unwrapped

TextFamily = Literal["clip", "siglip", "siglip2"]
"""Which tokens a text tower reads."""

TOKENIZER_CONFIG = "tokenizer_config.json"
TEXT_FAMILY = "text_family"
"""In it, the family in the files that are exported here."""

_POSITIONS = "position_embedding"
# Rows of the token table of all that is published as SigLIP 2, and of nothing else here.
_GEMMA = 256_000
# Of its tokenizers.
_GEMMA_TOKENIZERS = ("Gemma", "Siglip2")


@dataclasses.dataclass(frozen=True)
class PublishedText:
    """A published text tower, whose file has been checked but for the values of its tensors."""

    network: TextNetwork
    family: TextFamily
    _file: Unwrapped
    _description: TextDescription
    _sources: tuple[Source, ...]

    @property
    def length(self) -> int:
        """Of every text, padding included, in tokens."""
        return self.network.config.length

    def read(self, dtype: str = "float32") -> Params:
        """The parameters, nested dicts of NumPy arrays; see `Published.read`."""
        shapes = _parameter_shapes(self._description)
        wide = {_POSITIONS, ADDED_POSITIONS} & shapes.keys()
        found = read_sources(self._file, self._sources, shapes, dtype, wide=wide)
        added = found.pop(ADDED_POSITIONS, None)
        if added is not None:
            found[_POSITIONS] += added
        found[_POSITIONS] = found[_POSITIONS].astype(dtype)
        return nested(found)


def open_text(
    path: Path, *, family: TextFamily | None = None, dtype: str = "float32"
) -> PublishedText:
    """Finds out which text tower a file holds and checks names and shapes of its tensors.

    Args:
      path: of a file or directory, as `open_published` takes it, of a pair or a text tower alone.
      family: None finds it out, which of SigLIP and SigLIP 2 by what tokenizer_config.json says:
        the family itself, as exports do, or the tokenizer's class; or else by the size of the
        vocabulary.
      dtype: of activations.

    Raises:
      UserError: naming tensors that are missing, misshapen or unknown; if there is no text tower,
        or one of another family; for a file that is damaged or a pickle.
    """
    file, settings = open_weights(path)
    if "text" not in towers_in(file, settings):
        raise UserError(f"{path} holds no text tower that is known: {what_it_has(file)}")
    if big_vision.holds_text(file):
        description = big_vision.describe_text(file)
    else:
        description = huggingface_text.describe_text(file, settings)
    stored = description.config
    what = f"{description.family} text tower of width {stored.width} and depth {stored.depth}"
    sources = match_all(file, description, _parameter_shapes(description), what)
    with blame(path):
        config = dataclasses.replace(stored, dtype=dtype)
    network = TextNetwork(config, TextTransformer)
    return PublishedText(network, _family(path, description, family), file, description, sources)


def towers(path: Path) -> frozenset[str]:
    """Which towers of a pair a file or directory holds: "image", "text".

    Raises:
      UserError: if it is no file of weights, or config.json cannot be read.
    """
    return towers_in(*open_weights(path))


def towers_in(file: TensorFile, settings: Settings) -> frozenset[str]:
    """Which towers of a pair a file holds: "image", "text".

    Raises:
      UserError: if what config.json says cannot be read.
    """
    image, text = big_vision.recognises(file), big_vision.holds_text(file)
    if image or text:
        return frozenset(["image"] * image + ["text"] * text)
    return huggingface_text.towers(file, settings)


def _family(path: Path, found: TextDescription, family: TextFamily | None) -> TextFamily:
    if family not in (None, *get_args(TextFamily)):
        choices = ", ".join(get_args(TextFamily))
        raise UserError(f"the family of a text tower is one of {choices}, not {family}")
    if family is not None and family.removesuffix("2") != found.family:
        raise UserError(f"{path} holds a text tower of the family {found.family}, not {family}")
    if family is not None or found.family == "clip":
        return family or "clip"
    settings = Settings.beside(path, TOKENIZER_CONFIG)
    said, tokenizer = settings.text(TEXT_FAMILY), settings.text("tokenizer_class")
    if said in ("siglip", "siglip2"):
        return said
    if not tokenizer:
        return "siglip2" if found.config.vocab == _GEMMA else "siglip"
    return "siglip2" if tokenizer.startswith(_GEMMA_TOKENIZERS) else "siglip"


def _parameter_shapes(description: TextDescription) -> dict[str, tuple[int, ...]]:
    """Of the tower as it is stored, by name."""
    config = description.config
    shapes = shapes_by_name(TextNetwork(config, TextTransformer).abstract_params)
    if description.added_positions:
        shapes[ADDED_POSITIONS] = (config.length, config.width)
    return shapes
