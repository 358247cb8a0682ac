"""Models whose parameters were published, not trained by a run of this project."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax

from distill.bounds import Positive, Real, Side, Width, check_fields
from distill.config import resolve
from distill.data.tokens import Tokenizer
from distill.dense_view import DenseView
from distill.nn import (
    Network,
    Pair,
    PairConfig,
    PairNetwork,
    Params,
    TextConfig,
    TextNetwork,
    TextTransformer,
    VisionNetwork,
    ViTConfig,
)
from distill.nn.dense import DepthScale, HeadedNetwork
from distill.nn.family import ModelConfig
from distill.nn.zero_shot import ZeroShotClassifier, ZeroShotClassifierConfig, ZeroShotNetwork
from distill.paths import LocalPath, check_reachable
from distill.runs.models import without_execution
from distill.runs.zero_shot import PublishedZeroShot, RunPair, ZeroShotConfig, text_tokenizer
from students import vit
from teachers.pretrained import (
    Published,
    PublishedPair,
    PublishedText,
    open_pair,
    open_published,
    open_text,
)
from teachers.pretrained.text import TextFamily

AnyPublished = Published | PublishedPair | RunPair | PublishedZeroShot


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """A file of published weights; docs/weights.md says which are read."""

    path: LocalPath
    """Of a .safetensors or .npz file, or the directory that holds it with its config.json. Of a
    pair also the workdir of the run that trained it."""
    family: (
        Literal["big_vision", "timm", "vit", "deit", "clip", "siglip", "dinov2", "dinov3"] | None
    ) = None
    """What is expected; None takes what the names in the file and its config.json say."""
    image_size: Side | None = None
    """In pixels; None takes what the model is published for. Positions are interpolated."""
    mean: tuple[Real, ...] | None = None
    """Of pixel values in [0, 1]; None takes what the model is published with."""
    std: tuple[Positive, ...] | None = None
    heads: Width | None = None
    """Of a timm model where neither its config.json nor its architecture says how many."""
    zeroshot: ZeroShotConfig | None = None
    """Makes a pair of towers a classifier whose classes are texts; None takes its image tower."""
    tokenizer: LocalPath | None = None
    """Of a pair's text tower: a vocabulary, or a folder with one; None takes what lies beside the
    weights."""
    text_family: TextFamily | None = None
    """By whose rule a pair's texts become tokens; None takes what the files say."""

    def __post_init__(self):
        check_fields(self)

    def open(self, dtype: str | None) -> AnyPublished:
        """The model, its file checked but for the values.

        Raises:
          UserError: if it cannot be read.
        """
        image = self._open_image(dtype)
        if self.zeroshot is None:
            return image
        pair = self._open_pair(dtype)
        return self.zeroshot.open(pair, self._tokenizer(pair))

    def open_text(self) -> tuple[PublishedText, Tokenizer]:
        """The text tower alone, of a pair or a file of its own, and what makes tokens for it.

        Raises:
          UserError: if either cannot be read, or there is none.
        """
        path = check_reachable(Path(self.path), "weights.path")
        text = open_text(path, family=self.text_family)
        return text, self._tokenizer(text)

    @property
    def of_run(self) -> bool:
        """Whether they are a run's checkpoint."""
        return (Path(self.path) / "checkpoints").is_dir()

    @property
    def called(self) -> str:
        """What they are, as the subject of a message."""
        return "classes that are texts" if self.of_run else "published weights"

    def with_text(self) -> "PairWeightsConfig":
        """Both towers of the same weights."""
        return PairWeightsConfig(**vars(self))

    def _open_image(self, dtype: str | None) -> Published:
        return open_published(
            check_reachable(Path(self.path), "weights.path"),
            family=self.family,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            heads=self.heads,
            dtype=dtype or "float32",
        )

    def _open_pair(self, dtype: str | None) -> PublishedPair:
        return open_pair(
            Path(self.path),
            family=self.text_family,
            image_size=self.image_size,
            mean=self.mean,
            std=self.std,
            dtype=dtype or "float32",
        )

    def _tokenizer(self, text: PublishedPair | PublishedText) -> Tokenizer:
        return text_tokenizer(text, Path(self.path), self.tokenizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairWeightsConfig(WeightsConfig):
    """A file of published weights, of which both towers are used."""

    def open(self, dtype: str | None) -> PublishedPair:
        """The pair, its file checked but for the values.

        Raises:
          UserError: if it cannot be read, or is no pair.
        """
        pair = self._open_pair(dtype)
        # Which says whether it is of the family that is expected.
        self._open_image(dtype)
        return pair

    def open_tokenizer(self, pair: PublishedPair) -> Tokenizer:
        """What makes tokens of texts for the pair.

        Raises:
          UserError: if there is no vocabulary, or it is another family's.
        """
        return self._tokenizer(pair)


def place_published(
    published: AnyPublished, network: VisionNetwork, dtype: str | None = None
) -> Params:
    """Reads the parameters of published weights onto a mesh.

    Args:
      published: whose file is read.
      network: its network, placed on the mesh.
      dtype: of the parameters; None is float32.

    Raises:
      UserError: if the file is damaged, or its numbers are not floating-point or not finite.
    """
    return jax.tree.map(
        lambda host, sharding: jax.make_array_from_callback(
            host.shape, sharding, lambda index: host[index]
        ),
        published.read(dtype or "float32"),
        network.shardings,
    )


def describe_network(network: Network) -> dict[str, Any]:
    """What `described_network` builds a published model's network from, as JSON can hold it."""
    return without_execution(dataclasses.asdict(network.config))


def described_tower(model: dict[str, Any]) -> Network:
    """As `described_network`, or a text tower."""
    if "vocab" in model:
        return TextNetwork(resolve(TextConfig, model), TextTransformer)
    return described_network(model)


def described_network(model: dict[str, Any]) -> VisionNetwork:
    """The network of a run's `config.model`, or of what `describe_network` said."""
    if "family" in model:
        return resolve(ModelConfig, model).network()
    if "tower" in model:
        scale = model["depth"]
        return HeadedNetwork.of(
            described_network(model["tower"]),
            resolve(DenseView, model["view"]),
            outputs=model["head"]["outputs"],
            class_names=tuple(model["class_names"]),
            depth=None if scale is None else resolve(DepthScale, scale),
            part=model["part"],
        )
    if "text" in model:
        return PairNetwork(resolve(PairConfig, model), Pair)
    if "image" in model:
        config = resolve(ZeroShotClassifierConfig, model)
        return ZeroShotNetwork(config, ZeroShotClassifier)
    return vit.build(resolve(ViTConfig, model))
