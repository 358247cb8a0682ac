"""The evaluation of kind `video`: clips classified by the embeddings of their frames."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from distill.bounds import BatchSize, Depth, NotNegative, Positive, Seed, Some, SomeSteps, Width
from distill.data.sequences import Sequences, SequencesName, open_sequences
from distill.data.sources.base import abbreviate
from distill.errors import UserError, together
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.temporal import TemporalConfig
from distill.evaluate.video_evaluation import Labelled, VideoEvaluation
from distill.subject import Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoConfig(EvaluationConfig):
    """What a frozen model's embeddings of frames say of a clip's class.

    A temporal transformer is trained on them (the factorised encoder of ViViT, arXiv 2103.15691,
    on a frozen image model), and beside it a linear probe on their mean over time.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["video"] = "video"
    source: SequencesName
    """`clips:PATH`, folders of frames in folders of classes, or `videos:PATH`."""
    train_split: str = "train"
    """Learnt from; no slices."""
    test_split: str = "test"
    """Classified; no slices."""
    frames: Some = 16
    """Of a clip."""
    stride: Some = 2
    """From one frame of a clip to the next, in frames of its sequence. A sequence that is shorter
    than a clip begins again."""
    clips: Some = 4
    """Of a sequence to classify, spread evenly over it; its class probabilities are the mean of
    their softmax."""
    crops: Literal[1, 3] = 1
    """Of each clip to classify: 1 is the model's own view, 3 are also its views of the squares at
    both ends of the longer side. The softmax is averaged over them, too."""
    offsets: Some = 8
    """Of a sequence to learn from, in how many places, drawn, clips may begin; each time it is
    shown, one of them is drawn. Frames of all of these are embedded."""
    stored: Literal["float32", "float16"] = "float32"
    """As what embeddings are kept, in the host's memory."""
    width: Width | None = None
    """Of the transformer; None takes that of the embedding, at most 1536."""
    depth: Depth = 4
    """Blocks of the transformer."""
    attention_heads: Width | None = None
    """Of the transformer; None takes one for every 64 of the width."""
    steps: SomeSteps = 2000
    """Of training: a twelfth warms up, then the rate falls as a cosine."""
    batch_size: BatchSize = 64
    """Sequences of a step, or all if there are fewer."""
    learning_rate: Positive = 1e-3
    """Of AdamW, at its peak."""
    weight_decay: NotNegative = 1e-4
    """Of AdamW, multiplied by the rate."""
    seed: Seed = 0
    """Of offsets, order and initial parameters."""

    needs_teachers: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.width and self.attention_heads and self.width % self.attention_heads:
            raise ValueError(
                f"width {self.width} is not divisible by attention_heads {self.attention_heads}"
            )

    @property
    def names_data(self) -> bool:
        """It always does."""
        return True

    def shape(self, features: int, classes: int) -> TemporalConfig:
        """The transformer of embeddings of this width.

        Raises:
          ValueError: if heads do not divide the width.
        """
        return TemporalConfig.of(
            features,
            self.frames,
            classes,
            width=self.width,
            depth=self.depth,
            heads=self.attention_heads,
        )

    def build(self, name: str, subject: Subject) -> VideoEvaluation:
        """Metrics named `NAME/accuracy`, `NAME/mean_over_time/accuracy`, ….

        Raises:
          UserError: if there is no such split, its sequences have no labels, or classes that there
            is nothing to learn of; what is wrong with several keys is said together.
        """
        train, test, _ = together(
            lambda: self._open(subject, self.train_split),
            lambda: self._open(subject, self.test_split),
            lambda: self._check_width(subject),
        )
        if train.fingerprint == test.fingerprint:
            raise UserError(
                "the sequences to learn from and those to classify are the same; expected splits "
                f"that differ, not {self.train_split} and {self.test_split}"
            )
        return VideoEvaluation(
            name,
            self,
            subject,
            Labelled(train, train.labels, self.train_split),
            Labelled(test, self._renumbered(test, train), self.test_split),
        )

    def _check_width(self, subject: Subject) -> None:
        width = subject.network.config.embedding_width
        try:
            self.shape(width, 1)
        except ValueError as error:
            raise UserError(
                f"of embeddings {width} wide: {error}; give width and attention_heads"
            ) from error

    def _open(self, subject: Subject, split: str) -> Sequences:
        data = subject.data
        sequences = open_sequences(
            self.source,
            split,
            channels=subject.network.config.channels,
            exif_orientation=data.exif_orientation,
            max_pixels=data.max_pixels,
            decoder=data.decoder,
        )
        if not sequences.class_names:
            raise UserError(
                f"{self.source} has no classes to tell apart; expected clips:PATH or videos:PATH, "
                "whose folders are classes"
            )
        return sequences

    def _renumbered(self, test: Sequences, train: Sequences) -> np.ndarray:
        """Labels of sequences to classify, by the numbers of the classes to learn, int32 [N]."""
        known = {one: number for number, one in enumerate(train.class_names)}
        if unknown := [one for one in test.class_names if one not in known]:
            raise UserError(
                f"split {self.test_split!r} of {self.source} has classes that {self.train_split!r} "
                f"lacks: {abbreviate(tuple(unknown))}; name splits of the same classes"
            )
        numbers = np.array([*(known[one] for one in test.class_names), -1], np.int32)
        return numbers[test.labels]
