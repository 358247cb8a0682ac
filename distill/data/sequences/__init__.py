"""Where moving images come from: sequences of frames, read by sequence and number.

A set of sequences is named by one string, such as `clips:PATH`, `videos:PATH`, `davis:PATH` or
`textured_motion`; see docs/data.md. `Frames` are some of their frames as a source of images, which
loaders take.
"""

from distill.data.sequences.base import (
    Frames,
    Sequences,
    clip_frames,
    clip_starts,
    every_frame,
    last_start,
)
from distill.data.sequences.opening import SequencesName, open_sequences, sequences_name

__all__ = [
    "Frames",
    "Sequences",
    "SequencesName",
    "clip_frames",
    "clip_starts",
    "every_frame",
    "last_start",
    "open_sequences",
    "sequences_name",
]
