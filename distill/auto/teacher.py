"""Who teaches: a run or published weights at a path, and what is known of them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.auto.choices import Choice, parameters_in_words
from distill.data.tokens import Tokenizer
from distill.errors import UserError
from distill.nn import PairConfig, VisionNetwork
from distill.paths import download, is_repository, local_or_bucket_path
from distill.runs.opened import Described, ModelSource, describe_model
from distill.runs.teachers import TeacherConfig
from distill.runs.weights import WeightsConfig
from distill.runs.words import tokenizer_of
from distill.train.workdir import is_run


@dataclasses.dataclass(frozen=True)
class Taught:
    """A teacher, before its parameters are read."""

    section: dict[str, Any]
    """The keys of `config.teacher`."""
    described: Described
    words: bool
    """Whether it is a pair whose text tower a student can keep."""
    choices: tuple[Choice, ...]

    @property
    def network(self) -> VisionNetwork:
        """Of its image tower, or of a run's pair both."""
        return self.described.network

    @property
    def size(self) -> int:
        """Side of the images that it sees, in pixels."""
        return max(self.network.config.image_shape[:2])

    @property
    def channels(self) -> int:
        """Of the images that it sees."""
        return self.network.config.image_shape[2]

    @property
    def classes(self) -> int:
        """Of its classifier; 0 where it has none."""
        pair = isinstance(self.network.config, PairConfig)
        return 0 if pair else self.network.config.num_classes


def model_at(text: str, flag: str) -> Path | WeightsConfig:
    """The run or the published weights that a path names.

    Args:
      text: a path.
      flag: that holds it, for errors.

    Raises:
      UserError: if there is nothing; of what looks like a repository's name, how to fetch that.
    """
    path = Path(local_or_bucket_path(text, flag))
    if text.startswith(("s3:", "gs:")):
        return Path(ModelSource(workdir=text).place)  # pyright: ignore[reportArgumentType]
    if path.exists():
        return path if is_run(path) else WeightsConfig(path=str(path))
    if is_repository(text):
        raise UserError(
            f"{flag}: there is no {path}. If {text} is a repository of Hugging Face: nothing is "
            f"downloaded; {download(text)}"
        )
    raise UserError(
        f"{flag}: there is no {path}; give the workdir of a run, or published weights: a "
        ".safetensors or .npz file, or the directory that holds it with its config.json"
    )


def find_teacher(text: str) -> Taught:
    """Finds out who a teacher is.

    Raises:
      UserError: if there is none, or nothing is known of it.
    """
    place = model_at(text, "--teacher")
    try:
        described = describe_model(place)
    except UserError as error:
        raise UserError(
            f"--teacher: {error}\nKnown are runs of this project and ViT, AugReg, DeiT, CLIP, "
            "SigLIP, DINOv2 and DINOv3 as big_vision, Hugging Face or timm publish them "
            "(docs/weights.md); keep config.json beside the weights"
        ) from error
    if isinstance(place, Path):
        section: dict[str, Any] = {"workdir": text if "://" in text else str(place)}
        said = "the workdir of a run"
    else:
        section = {"weights": {"path": place.path}}
        family = getattr(described.published, "family", "")
        said = f"published weights of the family {family}"
    words = _tokenizer(section, described) is not None
    return Taught(section, described, words, tuple(_said(section, described, said, words)))


def _tokenizer(section: dict[str, Any], described: Described) -> Tokenizer | None:
    """What makes tokens for its text tower, where it has one."""
    if "workdir" in section:
        if not isinstance(described.network.config, PairConfig):
            return None
        return tokenizer_of(TeacherConfig(**section))
    if getattr(described.published, "family", None) not in ("clip", "siglip"):
        return None
    source = TeacherConfig(weights=WeightsConfig(**section["weights"])).with_text()
    try:
        return tokenizer_of(source)
    except UserError:
        # An image tower alone, which teaches as any other.
        return None


def _said(
    section: dict[str, Any], described: Described, said: str, words: bool
) -> Iterator[Choice]:
    network = described.network
    where = section.get("workdir") or section["weights"]["path"]
    size = parameters_in_words(network.parameter_count())
    yield Choice("teacher", where, f"{said}, {size}", ("teacher",))
    height, width, channels = network.config.image_shape
    mean, std = (
        ", ".join(f"{v:.3g}" for v in x) for x in (network.config.mean, network.config.std)
    )
    shown = f"{height}×{width}×{channels}"
    yield Choice("teacher sees", shown, f"what it was made for; mean {mean}, deviation {std}")
    if words:
        yield Choice(
            "its words", "kept", "the student keeps its text tower, and names classes by it"
        )
