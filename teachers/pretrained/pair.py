"""Pairs of an image tower and a text tower of published weights: CLIP, SigLIP, SigLIP 2."""

import dataclasses
from pathlib import Path

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.nn import PairNetwork, Params
from teachers.pretrained import big_vision, huggingface_text
from teachers.pretrained.load import Published, open_published, open_weights
from teachers.pretrained.match import Source, blame, match_all
from teachers.pretrained.read import nested, read_sources, shapes_by_name
from teachers.pretrained.text import PublishedText, TextFamily, open_text, towers_in
from teachers.pretrained.wrappers import Unwrapped

# Of the scale, a logarithm, bfloat16 would leave two digits.
_WIDE = ("temperature", "bias")


@dataclasses.dataclass(frozen=True)
class PublishedPair:
    """A published pair, whose file has been checked but for the values of its tensors."""

    network: PairNetwork
    """At the resolution and with the normalisation its image tower is to be fed with."""
    image: Published
    """The image tower alone."""
    text: PublishedText
    """The text tower alone."""
    _file: Unwrapped
    _sources: tuple[Source, ...]

    @property
    def view(self) -> EvaluationView:
        """What of an image it is to be shown."""
        return self.image.view

    @property
    def family(self) -> TextFamily:
        """By whose rule texts become ids."""
        return self.text.family

    @property
    def length(self) -> int:
        """Of every text, padding included, in tokens."""
        return self.network.config.text.length

    def read(self, dtype: str = "float32") -> Params:
        """The parameters, nested dicts of NumPy arrays; temperature and bias stay float32.

        Raises:
          UserError: if the file is damaged or its numbers are not floating-point or not finite.
        """
        towers = {"image": self.image.read(dtype), "text": self.text.read(dtype)}
        return towers | self.read_joint(dtype)

    def read_joint(self, dtype: str = "float32") -> Params:
        """Of the parameters, those of neither tower: temperature, bias, the image's projection."""
        shapes = _joint_shapes(self.network)
        return nested(read_sources(self._file, self._sources, shapes, dtype, wide=_WIDE))


def open_pair(
    path: Path,
    *,
    family: TextFamily | None = None,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    dtype: str = "float32",
) -> PublishedPair:
    """Finds out which pair a file holds and checks names and shapes of all its tensors.

    Args:
      path: of a file or directory, as `open_published` takes it.
      family: as `open_text` has it.
      image_size: as `open_published` has it.
      mean: likewise.
      std: likewise.
      dtype: of activations.

    Raises:
      UserError: naming tensors that are missing, misshapen or unknown; if a tower is missing, or
        the pair is of another family; for a file that is damaged, a pickle, or of another kind.
    """
    file, settings = open_weights(path)
    if missing := {"image", "text"} - towers_in(file, settings):
        one = " and ".join(sorted(missing))
        raise UserError(f"{path} has no {one} tower that is known; a pair is both in one file")
    text = open_text(path, family=family, dtype=dtype)
    image = open_published(path, image_size=image_size, mean=mean, std=std, dtype=dtype)
    if big_vision.holds_text(file):
        joint = big_vision.describe_joint(file)
    else:
        joint = huggingface_text.describe_joint(settings)
    config = text.network.config
    with blame(path):
        network = PairNetwork.of(
            image.network,
            config,
            embed_dim=config.embedding_width if joint.projection else 0,
            projection_bias=joint.projection_bias,
            bias=joint.bias,
        )
    sources = match_all(file, joint, _joint_shapes(network), f"{text.family} pair")
    return PublishedPair(network, image, text, file, sources)


def _joint_shapes(network: PairNetwork) -> dict[str, tuple[int, ...]]:
    params = network.abstract_params
    return shapes_by_name({k: v for k, v in params.items() if k not in ("image", "text")})
