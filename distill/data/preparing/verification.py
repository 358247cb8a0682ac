"""Prepared images read back and compared with their source."""

from pathlib import Path

import numpy as np

from distill.data.preparing.parts import Part, Tick, checksum, encoded_image
from distill.data.preparing.preparation import Preparation, Say, open_sources, parts_of
from distill.data.preparing.processes import Progress, in_processes
from distill.data.sources.base import CorruptImage, Source
from distill.data.sources.decoding import Decoding
from distill.data.sources.jpeg_images import JpegImage
from distill.data.sources.manifest import Manifest
from distill.data.sources.prepared import PreparedImages, has_order, open_prepared, order_file
from distill.data.sources.splits import slicing_order
from distill.errors import RunFailed

# Images of a split that are compared where not all are.
_SAMPLED = 1000
# What is said of what is wrong.
_NAMED = 5

Both = dict[str, tuple[Source, PreparedImages]]


def verify(preparation: Preparation, say: Say, *, all_images: bool) -> int:
    """Compares checksums of all shards, and pixels, labels and names with the source.

    Args:
      preparation: that is finished.
      say: takes lines for a person.
      all_images: whether all are compared, or 1,000 of each split.

    Returns:
      How many images were compared.

    Raises:
      UserError: if there is nothing prepared, or its source cannot be opened.
      RunFailed: if something differs.
    """
    folder, manifest = preparation.output, Manifest.read(preparation.output)
    decoding = Decoding(max_pixels=preparation.max_pixels)
    both: Both = {
        split: (source, open_prepared(folder, split, decoding))
        for split, source in open_sources(preparation, lambda line: None).items()
    }
    wrong = [
        f"{order_file(split)}: the order in which slices are taken"
        for split, (source, prepared) in both.items()
        if (
            (order := manifest.splits[split].order) is not None
            and not has_order(folder, split, order)
        )
        or not np.array_equal(slicing_order(source), prepared.slicing_order())
    ]
    tasks, images = [], 0
    for split in both:
        about = manifest.splits[split]
        chosen = np.arange(about.images)
        if not all_images and about.images > _SAMPLED:
            chosen = np.linspace(0, about.images - 1, _SAMPLED, dtype=np.int64)
        images += len(chosen)
        for part, shard in zip(parts_of(split, about), about.shards, strict=True):
            within = chosen[(chosen >= part.start) & (chosen < part.stop)]
            tasks.append((part, shard.blake2b, within))
    progress = Progress(say, "compared", images)
    found = in_processes(
        _verify_part, tasks, (both, folder, decoding), preparation.processes, progress
    )
    wrong += [one for part in found for one in part]
    if wrong:
        shown = "\n  ".join(wrong[:_NAMED])
        more = f"\n  and {len(wrong) - _NAMED:,} others" if len(wrong) > _NAMED else ""
        raise RunFailed(
            f"{folder} is not what its source is:\n  {shown}{more}\nDelete the shards named here, "
            "or all of it, and run the same command again, which writes them anew"
        )
    return images


def _verify_part(
    both: Both,
    folder: Path,
    decoding: Decoding,
    part: Part,
    blake2b: str,
    chosen: np.ndarray,
    tick: Tick,
) -> list[str]:
    """What is wrong with a shard."""
    try:
        found = checksum(folder / part.file)
    except OSError as error:
        return [f"{part.file} cannot be read: {error.strerror}"]
    if found != blake2b:
        return [f"{part.file} does not have its checksum: it is damaged"]
    source, prepared = both[part.split]
    wrong = []
    for index in chosen.tolist():
        if different := _difference(source, prepared, index, decoding):
            wrong.append(f"{part.file}: {different} of {source.describe(index)}")
        tick(1)
    return wrong


def _difference(source: Source, prepared: PreparedImages, index: int, decoding: Decoding) -> str:
    """What of an image is otherwise; empty where nothing is."""
    if prepared.name(index) != source.name(index):
        return "the name"
    if prepared.labels[index] != source.labels[index]:
        return "the label"
    pixels = _pixels(source, index, decoding)
    try:
        image = prepared.read(index)["image"]
        same = _has_pixels(image, pixels)
    except CorruptImage:
        same = pixels is None
    return "" if same else "a pixel"


def _pixels(source: Source, index: int, decoding: Decoding) -> np.ndarray | None:
    """Those of the whole image; None where it cannot be decoded."""
    try:
        return decoding.whole(encoded_image(source, index))
    except CorruptImage:
        return None


def _has_pixels(image: np.ndarray | JpegImage, pixels: np.ndarray | None) -> bool:
    """Whether the image has these pixels, its middle when it is decoded alone too.

    Raises:
      CorruptImage: if it cannot be decoded.
    """
    if pixels is None:
        np.asarray(image)
        return False
    height, width, _ = pixels.shape
    middle = np.s_[height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)]
    return (
        image.shape == pixels.shape
        and np.array_equal(image[middle], pixels[middle])
        and np.array_equal(np.asarray(image), pixels)
    )
