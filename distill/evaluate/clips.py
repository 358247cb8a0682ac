"""Clips of sequences, and the embeddings of their frames, each computed once."""

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from distill.data import Source
from distill.data.sequences import Frames, Sequences, clip_frames
from distill.data.sources.base import CorruptImage, Derived
from distill.data.spec import Example
from distill.errors import RunFailed
from distill.evaluate.features import Features
from distill.parallel import distributed

_log = logging.getLogger(__name__)

Begins = Callable[[int, int], np.ndarray]
"""Of a sequence by its number and length, where its clips begin, int [clips]."""
Embed = Callable[[Source], Features]
"""The embeddings of the images that can be decoded."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """Some clips of sequences, those of a sequence one after another."""

    source: Frames
    """Their frames, each once."""
    rows: np.ndarray
    """Of each clip's frames, their places in the source, int [C, T]."""
    sequence: np.ndarray
    """Of each clip, ascending, int [C]."""

    def embedded(
        self, embed: Embed, image: Callable[[Source], Source] = lambda one: one
    ) -> "Embedded":
        """The clips of whose frames all can be decoded.

        Args:
          embed: computes embeddings.
          image: makes other images of the frames.
        """
        found = embed(image(self.source))
        place = np.full(len(self.source), -1)
        place[found.index] = np.arange(len(found.index))
        rows = place[self.rows]
        whole = (rows >= 0).all(axis=1)
        return Embedded(found.embedding, rows[whole], self.sequence[whole])


class Embedded(NamedTuple):
    """The embeddings of clips' frames."""

    frames: np.ndarray
    """[N, D], of all frames."""
    rows: np.ndarray
    """Of each clip's frames, rows of these, int [C, T]."""
    sequence: np.ndarray
    """Of each clip, ascending, int [C]."""

    @property
    def sequences(self) -> np.ndarray:
        """Those of which there is a clip, ascending, int [S]."""
        return np.unique(self.sequence)

    def means(self) -> np.ndarray:
        """Of each of these sequences, the mean over its clips' frames, float32 [S, D]."""
        _, begins = np.unique(self.sequence, return_index=True)
        means = np.empty((len(begins), self.frames.shape[1]), np.float32)
        for place, rows in enumerate(np.split(self.rows, begins[1:])):
            means[place] = self.frames[rows.reshape(-1)].mean(axis=0, dtype=np.float64)
        return means


def lengths_of(sequences: Sequences, wanted: np.ndarray, threads: int | None = None) -> np.ndarray:
    """How many frames sequences have, int [N]: 0 of those that cannot be decoded, which are named.

    Args:
      sequences: all.
      wanted: bool [N]; of the others it is 0, too.
      threads: that decode videos to count their frames; see `DataConfig`.
    """

    def length(index: int) -> int | CorruptImage:
        try:
            return sequences.frames(index)
        except CorruptImage as error:
            return error

    found, numbers = np.zeros(len(sequences), np.int64), np.flatnonzero(wanted).tolist()
    with ThreadPoolExecutor(threads or 4, "lengths") as pool:
        for index, one in zip(numbers, pool.map(length, numbers), strict=True):
            if isinstance(one, int):
                found[index] = one
            elif distributed.is_primary():
                _log.warning("left out %s: %s", sequences.describe(index), one)
    return found


def choose(
    sequences: Sequences, lengths: np.ndarray, begins: Begins, *, frames: int, stride: int
) -> Clips:
    """The clips of all sequences that have a length.

    Args:
      sequences: where they are.
      lengths: of `lengths_of`.
      begins: where clips begin.
      frames: of a clip.
      stride: from one frame of a clip to the next.
    """
    sequence, numbers = [], [np.empty((0, frames), np.int64)]
    for index in np.flatnonzero(lengths).tolist():
        length = int(lengths[index])
        starts = begins(index, length)
        numbers += [clip_frames(length, frames, stride, int(one))[None] for one in starts]
        sequence += [index] * len(starts)
    of, whole = np.array(sequence, np.int64), np.concatenate(numbers)
    # As single numbers, which sort much faster than pairs.
    span = int(lengths.max(initial=1))
    pairs, rows = np.unique(of[:, None] * span + whole, return_inverse=True)
    chosen = np.stack(np.divmod(pairs, span), axis=1)
    return Clips(Frames(sequences, chosen), rows.reshape(whole.shape), of)


def check_readable(sequences: Sequences, asked: np.ndarray, found: np.ndarray, most: float) -> int:
    """How many sequences have no clip that can be decoded.

    Args:
      sequences: all.
      asked: numbers of those to read.
      found: of those with a clip.
      most: the share of them that may have none, of any number above 0 at least one sequence; see
        `DataConfig.max_corrupt_share`.

    Raises:
      RunFailed: if more have none.
    """
    lost = np.setdiff1d(asked, found)
    if len(lost) > max(most * len(asked), 1 if most else 0):
        raise RunFailed(
            f"{len(lost)} of {len(asked)} sequences could not be decoded, more than the share of "
            f"{most} that config.data.max_corrupt_share, in evaluations --max_corrupt_share, "
            "allows; the last is "
            f"{sequences.describe(int(lost[-1]))}. Repair the data or raise the share"
        )
    return len(lost)


class Squares(Derived):
    """Of each image, the square at one end of its longer side.

    Args:
      source: the images.
      end: 0 for the left or top, 1 for the right or bottom.
    """

    def __init__(self, source: Source, end: int):
        super().__init__(source)
        self._end = end

    def read(self, index: int) -> Example:
        """Reads the example from the source; of its image, the square."""
        example = self._source.read(index)
        image = np.asarray(example["image"])
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (self._end * (one - side) for one in (height, width))
        return {**example, "image": image[top : top + side, left : left + side]}


def describe_sequences(sequences: Sequences, source: str, split: str) -> dict[str, Any]:
    """Which sequences they are, as JSON can hold it; as `describe_images`, which counts images."""
    return {
        "source": source,
        "split": split,
        "images": len(sequences),
        "fingerprint": sequences.fingerprint,
    }
