"""The evaluation of kind `propagation`: objects followed through videos by what tokens resemble."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from distill.analysis.objects import ObjectScores, mean_scores, object_scores
from distill.analysis.propagation import Propagation, propagated_masks
from distill.bounds import Between, Positive, Side, Some
from distill.data.sequences import Sequences, SequencesName, open_sequences
from distill.data.sources.base import CorruptImage, count
from distill.errors import RunFailed, UserError
from distill.evaluate.clips import check_readable, describe_sequences
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.notes import Notes
from distill.evaluate.whole_frames import FrameTokens
from distill.nn import Params
from distill.parallel import distributed
from distill.subject import Subject

_log = logging.getLogger(__name__)

# In examples, by the name that `distill.data.sequences.davis` gives it.
_MASK = "segmentation"
_FIGURES = ("j", "f", "j_and_f")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PropagationConfig(EvaluationConfig):
    """How well tokens follow the objects of a video's first frame, with nothing learnt.

    The protocol of DINO (arXiv 2104.14294, section 4.2.1) on sequences as DAVIS 2017 has them.
    Frames are shown whole, whatever the model's own view is.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["propagation"] = "propagation"
    source: SequencesName
    """`davis:PATH`."""
    split: str = "val"
    """The list in `ImageSets/2017`; no slices."""
    short_side: Side = 480
    """Pixels that a frame's shorter side is made; both sides are then rounded to the nearest
    multiple of the model's patch."""
    context: Annotated[int, Between(0, 10**6)] = 7
    """How many frames are looked back to, beside the first."""
    radius: Annotated[int, Between(0, 2**14)] = 12
    """How far, in patches to each side."""
    neighbours: Some = 5
    """How many of the most similar patches count."""
    temperature: Positive = 0.1
    """Of similarities."""

    needs_teachers: ClassVar[bool] = False
    of_views: ClassVar[bool] = False

    @property
    def names_data(self) -> bool:
        """It always does."""
        return True

    @property
    def settings(self) -> Propagation:
        """As the library has them."""
        return Propagation(
            frames=self.context,
            radius=self.radius,
            neighbours=self.neighbours,
            temperature=self.temperature,
        )

    def build(self, name: str, subject: Subject) -> "PropagationEvaluation":
        """Metrics named `NAME/j`, `NAME/f` and `NAME/j_and_f`.

        Raises:
          UserError: if there is no such split, or its frames have no masks.
        """
        data = subject.data
        sequences = open_sequences(
            self.source,
            self.split,
            channels=subject.network.config.channels,
            exif_orientation=data.exif_orientation,
            max_pixels=data.max_pixels,
            decoder=data.decoder,
        )
        if _MASK not in sequences.spec:
            raise UserError(
                f"the frames of {self.source} have no masks of objects to follow; expected "
                "davis:PATH"
            )
        return PropagationEvaluation(name, self, subject, sequences)


class PropagationEvaluation:
    """J and F of objects that a model's tokens follow.

    Args:
      name: prefix of the metrics.
      config: how they are followed.
      subject: the model.
      sequences: frames with masks.
    """

    def __init__(
        self, name: str, config: PropagationConfig, subject: Subject, sequences: Sequences
    ):
        self._name, self._config, self._subject = name, config, subject
        self._sequences = sequences
        self._ignore: int = getattr(sequences.spec[_MASK], "ignore")  # noqa: B009
        self._tokens = FrameTokens(subject, config.short_side)
        self._notes = Notes()
        self._scores: dict[str, ObjectScores] = {}
        self._left_out: dict[str, int] = {}
        self.missing: frozenset[str] = frozenset()
        """Metrics of which the last call could say nothing."""
        self.remarks = (sequences.found, *self._remark_on_grid())

    def _remark_on_grid(self) -> Sequence[str]:
        try:
            (first,) = self._sequences.read(0, [0])
        except CorruptImage:
            return ()
        grid, trained = self._tokens.grid(first["image"].shape[:2]), self._tokens.trained
        if grid == trained:
            return ()
        return (
            f"frames are shown whole: {grid[0]}×{grid[1]} patches of the first one, where the "
            f"model was made for {trained[0]}×{trained[1]}, so positions are interpolated",
        )

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """J, F and their mean over all objects; all processes must call it, and all get the same.

        Sequences of one frame, whose first frame shows no object, or with a frame that cannot be
        decoded are left out.

        Raises:
          RunFailed: if a token is not finite, or too many sequences cannot be decoded.
          UserError: if frames of a sequence differ in size.
        """
        del frozen
        self._scores, read = {}, []
        self._left_out = {"single": 0, "without_objects": 0, "corrupt": 0}
        for index in range(len(self._sequences)):
            try:
                frames, masks = self._read(index)
            except CorruptImage as error:
                if distributed.is_primary():
                    _log.warning("left out %s: %s", self._sequences.describe(index), error)
                continue
            read.append(index)
            self._follow(index, params, frames, masks)
        every, most = np.arange(len(self._sequences)), self._subject.data.max_corrupt_share
        self._left_out["corrupt"] = check_readable(
            self._sequences, every, np.array(read, np.int64), most
        )
        found = mean_scores([*self._scores.values()])
        asked = self.metrics(params)
        metrics = {f"{self._name}/{one}": value for one, value in found.items()}
        self.missing = frozenset(asked - metrics.keys())
        if self.missing:
            self._notes.say(f"{self._name} missing: no sequence has an object to follow")
        return metrics

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        return frozenset(f"{self._name}/{one}" for one in _FIGURES)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """All frames of a sequence, uint8 [T, height, width, C], and their masks.

        Raises:
          CorruptImage: if one cannot be decoded.
          UserError: if they differ in size.
        """
        sequences = self._sequences
        examples = sequences.read(index, range(sequences.frames(index)))
        sizes = sorted({one[_MASK].shape for one in examples})
        if len(sizes) > 1:
            raise UserError(
                f"frames of {sequences.describe(index)} differ in size: "
                f"{', '.join(f'{width}×{height}' for height, width in sizes)}; expected one size"
            )
        frames, masks = ([one[key] for one in examples] for key in ("image", _MASK))
        return np.stack(frames), np.stack(masks)

    def _follow(self, index: int, params: Params, frames: np.ndarray, masks: np.ndarray) -> None:
        """Follows the objects of one sequence, and keeps how well it went."""
        if len(frames) < 2:
            self._left_out["single"] += 1
            return
        if not np.isin(masks[0], (0, self._ignore), invert=True).any():
            self._left_out["without_objects"] += 1
            return
        name = self._sequences.name(index)
        tokens = self._tokens(params, frames)
        try:
            predictions = propagated_masks(
                tokens, masks[0], self._config.settings, ignore=self._ignore
            )
            self._scores[name] = object_scores(
                np.stack([*predictions]), masks, ignore=self._ignore, source=name
            )
        except RunFailed as error:
            raise type(error)(f"{self._sequences.describe(index)}: {error}") from error

    def seen(self) -> list[str]:
        """How many sequences and objects the last call has followed, and what was left out."""
        scores = self._scores.values()
        objects = sum(len(one.objects) for one in scores)
        frames = sum(one.j.shape[1] for one in scores)
        said = {
            "single": "of one frame",
            "without_objects": "whose first frame shows no object",
            "corrupt": "that cannot be decoded",
        }
        left = [
            f"{self._left_out[key]:,} {text}"
            for key, text in said.items()
            if self._left_out.get(key)
        ]
        note = f" (left out {', '.join(left)})" if left else ""
        return [
            f"{count(objects, 'object')} in {count(len(scores), 'sequence')} of "
            f"{self._config.source}, {count(frames, 'frame')} after the first ones{note}"
        ]

    def about(self) -> dict[str, Any]:
        """The sequences, how frames are shown, and how well each sequence was followed."""
        config = self._config
        return {
            "data": [describe_sequences(self._sequences, config.source, config.split)],
            "view": {"short_side": config.short_side, "filter": self._subject.view.filter},
            "among": None,
            "details": {
                "figures": [*_FIGURES],
                "left_out": self._left_out,
                "sequences": {
                    name: {"objects": len(one.objects), **mean_scores([one])}
                    for name, one in self._scores.items()
                },
            },
        }
