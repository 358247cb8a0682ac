"""The set of sequences that a config or a flag names."""

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

from distill.data.fast import MAX_PIXELS, Decoder
from distill.data.sequences.base import Sequences
from distill.data.sequences.clips import open_clips
from distill.data.sequences.davis import open_davis
from distill.data.sequences.textured_motion import open_motion
from distill.data.sequences.videos import Videos
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import parts_of
from distill.data.sources.options import options_of, path_and_options
from distill.data.sources.places import storage_of
from distill.errors import UserError, did_you_mean
from distill.paths import data_path


class _Format(NamedTuple):
    open: Callable[[str, str, Decoding, Mapping[str, str]], Sequences]
    options: Mapping[str, str] = {}
    has_path: bool = True
    """Whether a path follows its name; else sequences are drawn."""


_FORMATS = {
    "clips": _Format(lambda root, split, decoding, _: open_clips(root, split, decoding)),
    "videos": _Format(
        lambda root, split, decoding, _: Videos(root, split, decoding.channels, decoding.max_pixels)
    ),
    "davis": _Format(open_davis, {"resolution": "NAME"}),
    "textured_motion": _Format(open_motion, {"clips": "NUMBER"}, has_path=False),
}


def sequences_name(text: str, what: str = "sequences") -> str:
    """The name of a set of sequences, such as `clips:PATH`, with the path as `data_path` has it.

    Raises:
      UserError: if its kind is not known, or it has no path or one on another machine, or one
        where there is none.
    """
    kind, path, options = parts_of(text)
    form = _FORMATS.get(kind)
    if form is not None and not form.has_path and ":" not in text:
        options_of(kind, options, form.options)
        return text
    if form is None or not form.has_path or options or not path:
        expected = ", ".join(
            f"{name}:PATH" if one.has_path else name for name, one in _FORMATS.items()
        )
        raise UserError(
            f"{what} is {text!r}; expected one of {expected}{did_you_mean(kind, _FORMATS)}"
        )
    return f"{kind}:{data_path(path, what)}"


SequencesName = Annotated[str, sequences_name]
"""The name of a set of sequences."""


def open_sequences(
    name: str,
    split: str,
    *,
    channels: int,
    exif_orientation: bool = False,
    decoder: Decoder = "fast",
    max_pixels: int = MAX_PIXELS,
) -> Sequences:
    """Opens a split of a set of sequences.

    Args:
      name: `clips:PATH`, folders of frames; `videos:PATH`; `davis:PATH`; or `textured_motion`,
        which is drawn.
      split: its name; no slices.
      channels: 1 for grey or 3 for colour; frames are converted.
      exif_orientation: whether frames that are images are turned as their EXIF orientation says.
      decoder: what decodes frames that are JPEG files.
      max_pixels: of a frame; one that declares more is corrupt.

    Raises:
      MissingSplit: if there is no such split, or nothing in it.
      UserError: if there is no such set, or it cannot be opened.
    """
    kind, argument, said = parts_of(sequences_name(name))
    form = _FORMATS[kind]
    if "[" in split:
        raise UserError(
            f"{split} is a slice, and splits of sequences have none; name a whole one, such as "
            f"{split.partition('[')[0]}"
        )
    if form.has_path:
        root, options = path_and_options(argument, form.options)
        storage_of(root).check_reachable(root, "folder of sequences")
    else:
        root, options = "", options_of(kind, said, form.options)
    decoding = Decoding(channels, exif_orientation, decoder, max_pixels)
    return form.open(root, split, decoding, options)
