"""Clips of a handwritten digit that moves, or changes its size, on a photograph."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import MissingSplit, count, fingerprint_of, labelled
from distill.data.sources.decoding import Decoding
from distill.data.sources.drawing import (
    COLUMNS,
    LIGHT,
    Ground,
    Ink,
    covers,
    draw_digit,
    draw_ground,
    draw_ink,
    draw_place,
    in_channels,
    scans,
)
from distill.data.sources.options import whole_number
from distill.data.spec import Example, labelled_images

CLASSES = ("left", "right", "up", "down", "grow", "shrink")
"""Each beside the one that it is from the last frame to the first."""

FRAMES, SIDE = 8, 32
"""Of a clip, and of a frame in pixels."""

SIZES = range(10, 18)
"""Sides of the digit's square, in pixels; after the largest comes the smallest."""

SPEED = 3
"""Pixels from a frame to the next, of a digit that moves."""

CLIPS = {"train": 2_400, "validation": 300, "test": 600}
"""How many there are where no number is asked for."""

_SEED = 2


class State(NamedTuple):
    """What of a digit changes from frame to frame."""

    row: int
    """Of its middle, 0 to `SIDE` − 1."""
    column: int
    size: int
    """The place of its side in `SIZES`."""


_LAST = State(SIDE, SIDE, len(SIZES))
# From one frame to the next, of every other class; the classes between them run backwards.
_STEPS = (State(0, -SPEED, 0), State(-SPEED, 0, 0), State(0, 0, 1))


class Clip(NamedTuple):
    """What a clip shows."""

    ground: Ground
    scan: int
    """Its number among the split's digits."""
    ink: Ink
    states: tuple[State, ...]
    """Of the digit in each frame."""


class TexturedMotion:
    """Real digits on real photographs that go left, right, up or down, grow or shrink.

    Frames are a torus: what leaves one on a side comes in on the opposite one, and what has grown
    to the largest size is next of the smallest. So row, column and size of any one frame are
    distributed evenly, whatever the class: a frame says nothing of it. Of clips 2k and 2k + 1, one
    is the other from its last frame to its first, so that neither do frames without their order
    say which of the two it is: at best they tell three pairs of classes apart. A clip depends on
    its split and its number alone. Splits share no scan, and no pixel of the photographs.

    Args:
      split: `train`, `validation` or `test`.
      channels: 1 for grey or 3 for colour.
      clips: how many; None for those of `CLIPS`.

    Raises:
      MissingSplit: if there is no such split.
    """

    decodes_from_start = False
    class_names = CLASSES

    def __init__(self, split: str, channels: int, clips: int | None = None):
        if split not in COLUMNS:
            raise MissingSplit(
                f"textured_motion has no split {split!r}; it has {', '.join(COLUMNS)}"
            )
        self.spec = labelled_images(channels)
        self.labels = np.resize(np.arange(len(CLASSES), dtype=np.int32), clips or CLIPS[split])
        """Of the clips, int32 [N]; classes take turns."""
        self._split, self._channels = split, channels
        self._covers = [covers(split, side) for side in SIZES]

    def __len__(self) -> int:
        return len(self.labels)

    def frames(self, index: int) -> int:
        """How many frames a clip has: as many as any other."""
        return FRAMES

    def clip(self, index: int) -> Clip:
        """What a clip shows."""
        pair, is_backward = divmod(index, 2)
        rng = np.random.default_rng((_SEED, list(COLUMNS).index(self._split), pair))
        ground = draw_place(rng, self._split, SIDE)
        scan = int(rng.integers(len(self._covers[0])))
        ink = draw_ink(rng)
        start = rng.integers(_LAST)
        steps = np.outer(np.arange(FRAMES), _STEPS[pair % len(_STEPS)])
        states = [State(*one) for one in ((start + steps) % _LAST).tolist()]
        return Clip(ground, scan, ink, tuple(states[::-1] if is_backward else states))

    def read(self, index: int, frames: Sequence[int] | np.ndarray) -> list[Example]:
        """Draws frames of a clip.

        Raises:
          ValueError: if there is no such frame.
        """
        clip, label = self.clip(index), self.labels[index]
        numbers = [int(frame) for frame in frames]
        if wrong := [one for one in numbers if not 0 <= one < FRAMES]:
            raise ValueError(f"{self.describe(index)} has {FRAMES} frames, and no frame {wrong[0]}")
        return [{"image": self._draw(clip, clip.states[one]), "label": label} for one in numbers]

    def _draw(self, clip: Clip, state: State) -> np.ndarray:
        cover, side = self._covers[state.size][clip.scan], SIZES[state.size]
        # The digit is drawn in the middle of a torus that is turned there and back.
        turn = SIDE // 2 - state.row, SIDE // 2 - state.column
        canvas = np.roll(draw_ground(clip.ground, SIDE, LIGHT), turn, axis=(0, 1))
        corner = SIDE // 2 - side // 2
        draw_digit(canvas, cover, corner, corner, clip.ink)
        return in_channels(np.roll(canvas, np.negative(turn), axis=(0, 1)), self._channels)

    def describe(self, index: int) -> str:
        """The clip's number, its class and the number of its scan in `load_digits()`."""
        name = scans(self._split).name(self.clip(index).scan)
        moves = CLASSES[self.labels[index]]
        return f"textured_motion {self._split} clip {index} ({moves}), of digits image {name}"

    def name(self, index: int) -> str:
        """The clip's number in its split."""
        return f"{self._split}/{index}"

    @property
    def found(self) -> str:
        """How many clips and frames there are, in how many classes."""
        frames = labelled(FRAMES * len(self), len(CLASSES)).replace("image", "frame")
        return f"{count(len(self), 'sequence')} of {frames}"

    @property
    def fingerprint(self) -> str:
        """Of the split's name and the number of clips; what they show never changes."""
        return fingerprint_of("textured_motion", self._split, len(self))


def open_motion(
    root: str, split: str, decoding: Decoding, options: Mapping[str, str]
) -> TexturedMotion:
    """Opens a split of the clips.

    Args:
      root: none; there are no files.
      split: `train`, `validation` or `test`.
      decoding: how many channels frames have.
      options: `clips`, how many.

    Raises:
      MissingSplit: if there is no such split.
      UserError: if the number is none.
    """
    clips = whole_number(options, "clips", CLIPS.get(split, 1), 1, 2**31 - 1)
    return TexturedMotion(split, decoding.channels, clips)
