"""The source that a config names."""

import os
from collections.abc import Iterable

from distill.data.fast import MAX_PIXELS, Decoder
from distill.data.sources.base import EmptySplit, Source
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Request, check_place, known_formats, parts_of
from distill.data.sources.options import options_of
from distill.data.sources.together import opened_together
from distill.errors import UserError, did_you_mean


def open_source(
    name: str,
    split: str,
    *,
    channels: int,
    data_dir: str | None = None,
    exif_orientation: bool = False,
    decoder: Decoder = "fast",
    max_pixels: int = MAX_PIXELS,
    captions: bool = False,
) -> Source:
    """Opens the split of the source a config names.

    Args:
      name: of a format that a module of this package declares, such as `folder:PATH`, or with
        options such as `textured_scenes?size=64`.
      split: the split's name, or slices such as `train[:98%]` or `train[:10%]+train[90%:]`.
      channels: 1 for grey or 3 for colour; images are converted.
      data_dir: where TFDS keeps its data sets; None for its default.
      exif_orientation: whether images are turned as their EXIF orientation says.
      decoder: what decodes JPEG files.
      max_pixels: of an image; one that declares more is corrupt.
      captions: whether the texts that go with images are wanted, too, if there are any.

    Raises:
      MissingSplit: if there is no such split, or, an `EmptySplit`, no image in it.
      UserError: if there is no such source, or it cannot be opened.
    """
    formats = known_formats()
    kind, argument, said = parts_of(name)
    form = formats.get(kind)
    if form is None or bool(argument) != bool(form.argument):
        *others, last = (one.spelled for one in formats.values())
        expected = f"{', '.join(others)} or {last}"
        guess = _guess(name, kind, formats)
        raise UserError(f"unknown data source {name!r}; expected {expected}{guess}")
    check_place(form, argument, "data source")
    options = options_of(kind, said, form.options)
    decoding = Decoding(channels, exif_orientation, decoder, max_pixels)
    with opened_together():
        source = form.open(
            Request(
                argument=argument,
                split=split,
                decoding=decoding,
                data_dir=data_dir,
                captions=captions,
                options=options,
            )
        )
    if not len(source):
        raise EmptySplit(f"split {split!r} of {name} holds no images ({source.found})")
    return source


def _guess(name: str, kind: str, known: Iterable[str]) -> str:
    """What a name that is no source was probably meant to be."""
    if os.path.isdir(name):
        return f". It is a folder; did you mean folder:{name}, of class/image, or images:{name}?"
    return did_you_mean(kind, known)
