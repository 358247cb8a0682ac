"""What every set of sequences offers, which frames a clip has, and frames as a source of images."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from distill.data.sources.base import count, fingerprint_of
from distill.data.spec import Example, ExampleSpec

# Sequences whose frames are kept decoded, where reading one decodes those before it.
_KEPT = 4


class Sequences(Protocol):
    """A fixed, ordered collection of sequences of frames."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty where sequences have no labels."""
        ...

    @property
    def spec(self) -> ExampleSpec:
        """What each frame holds: as an image's of a `Source`, `label` being its sequence's."""
        ...

    def __len__(self) -> int:
        """Number of sequences."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """Of the sequences, int32 [N], −1 for one without."""
        ...

    @property
    def decodes_from_start(self) -> bool:
        """Whether reading a frame decodes all before it, so that several are best read at once."""
        ...

    def frames(self, index: int) -> int:
        """How many frames a sequence has, at least 1; of a video, which is decoded for it.

        Raises:
          CorruptImage: if it cannot be decoded.
          RunFailed: if the system cannot read it.
        """
        ...

    def read(self, index: int, frames: Sequence[int] | np.ndarray) -> list[Example]:
        """Frames of a sequence by their numbers, from 0, in any order and several times.

        Raises:
          CorruptImage: if one cannot be decoded, or is not there.
          RunFailed: if the system cannot read it, or it is not what `spec` says.
        """
        ...

    def describe(self, index: int) -> str:
        """What a person needs to find the sequence, printable."""
        ...

    def name(self, index: int) -> str:
        """What it is called in its set, wherever that lies."""
        ...

    @property
    def found(self) -> str:
        """A line that says what there is and what was left out."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change where sequences, frames, their order or classes do."""
        ...


def last_start(length: int, frames: int, stride: int) -> int:
    """The last frame at which a clip can begin without being looped; 0 for a shorter sequence.

    Args:
      length: frames of the sequence.
      frames: of the clip.
      stride: from one frame of the clip to the next, in frames of the sequence.
    """
    return max(length - ((frames - 1) * stride + 1), 0)


def clip_frames(length: int, frames: int, stride: int = 1, start: int = 0) -> np.ndarray:
    """The numbers of a clip's frames, int64 [frames]; what ends too soon begins again.

    Args:
      length: frames of the sequence.
      frames: of the clip.
      stride: from one frame of the clip to the next, in frames of the sequence.
      start: the clip's first frame.

    Raises:
      ValueError: if one of them is too small.
    """
    if min(length, frames, stride) < 1 or start < 0:
        raise ValueError(
            f"length, frames and stride must be at least 1 and start 0, not {length}, {frames}, "
            f"{stride} and {start}"
        )
    return (start + stride * np.arange(frames, dtype=np.int64)) % length


def clip_starts(length: int, frames: int, stride: int, clips: int) -> np.ndarray:
    """Where evenly spaced clips of a sequence begin, from its beginning to its end, int64 [clips].

    One alone is in the middle. Of a sequence no longer than a clip, all begin at 0.
    """
    last = last_start(length, frames, stride)
    if clips == 1:
        return np.array([last // 2])
    return np.arange(clips, dtype=np.int64) * last // (clips - 1)


class Frames:
    """Some frames of sequences, one after another, as a source of images.

    Args:
      sequences: where they are.
      chosen: of each image, in order, its sequence and its number in it, int [N, 2].
    """

    def __init__(self, sequences: Sequences, chosen: np.ndarray):
        self.class_names, self.spec = sequences.class_names, sequences.spec
        self.chosen = np.asarray(chosen, np.int64).reshape(-1, 2)
        self.labels = sequences.labels[self.chosen[:, 0]]
        """Of all images, those of their sequences, int32 [N]."""
        self._sequences = sequences
        self._order = np.argsort(self.chosen[:, 0], kind="stable")
        self._kept: OrderedDict[int, _Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_kept", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _kept=OrderedDict(), _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, index: int) -> Example:
        """Reads the frame; of a video, all that are chosen of it at once."""
        sequence, frame = self.chosen[index].tolist()
        if not self._sequences.decodes_from_start:
            return self._sequences.read(sequence, [frame])[0]
        with self._lock:
            decoded = self._kept.setdefault(sequence, _Decoded())
            self._kept.move_to_end(sequence)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        # Others wait for the same sequence, and not for another.
        with decoded.lock:
            if not decoded.frames:
                wanted = self._chosen_of(sequence)
                found = self._sequences.read(sequence, wanted)
                decoded.frames.update(zip(wanted.tolist(), found, strict=True))
        return decoded.frames[frame]

    def _chosen_of(self, sequence: int) -> np.ndarray:
        """The frames that are chosen of a sequence, each once."""
        ordered = self.chosen[self._order, 0]
        start, stop = np.searchsorted(ordered, [sequence, sequence + 1])
        return np.unique(self.chosen[self._order[start:stop], 1])

    def describe(self, index: int) -> str:
        """The sequence, and the frame's number in it."""
        sequence, frame = self.chosen[index].tolist()
        return f"{self._sequences.describe(sequence)} frame {frame}"

    def name(self, index: int) -> str:
        """The sequence's name, and the frame's number in it."""
        sequence, frame = self.chosen[index].tolist()
        return f"{self._sequences.name(sequence)}#{frame}"

    @property
    def is_remote(self) -> bool:
        """Whether the sequences wait for a network."""
        return getattr(self._sequences, "is_remote", False)

    @property
    def version(self) -> str:
        """The sequences'."""
        return getattr(self._sequences, "version", "")

    @property
    def found(self) -> str:
        """How many frames of what was found."""
        return f"{count(len(self), 'frame')} of {self._sequences.found}"

    @property
    def fingerprint(self) -> str:
        """Of the sequences' fingerprint, and which frames these are."""
        return fingerprint_of(self._sequences.fingerprint, self.chosen.astype("<i8").tobytes())


class _Decoded:
    """The frames of a sequence that one thread decodes for all."""

    def __init__(self):
        self.lock = threading.Lock()
        self.frames: dict[int, Example] = {}


def every_frame(sequences: Sequences) -> Frames:
    """All frames of all sequences, in order."""
    lengths = [sequences.frames(index) for index in range(len(sequences))]
    chosen = np.concatenate([_column(n, np.arange(length)) for n, length in enumerate(lengths)])
    return Frames(sequences, chosen)


def _column(sequence: int, frames: np.ndarray) -> np.ndarray:
    return np.stack([np.full_like(frames, sequence), frames], axis=1)
