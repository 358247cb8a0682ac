"""Clips, each a folder of frames in the folder of its class."""

import os
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from distill.data.sequences.frame_files import FrameFiles, in_order
from distill.data.sources.base import MissingSplit, count, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.file_table import FileTable
from distill.data.sources.folders import ImageFiles
from distill.data.sources.layout import class_names, drawn, find_split
from distill.data.sources.scanning import LeftOut, list_folder, scan
from distill.errors import UserError

_EXPECTED = "SPLIT/CLASS/CLIP/00000.jpg, or CLASS/CLIP/00000.jpg, from which splits are drawn"


class _FrameImages(ImageFiles):
    """The frames of all clips."""

    class_names = ()


def open_clips(root: str, split: str, decoding: Decoding) -> FrameFiles:
    """Opens the clips of `root/split/CLASS/CLIP/`, or of `root/CLASS/CLIP/` what a split draws.

    Frames are in the order of the numbers in their names. A folder of a clip without frames is left
    out, and counted.

    Args:
      root: the folder.
      split: its name, or another for the same; where there are none, drawn by a hash of the clip's
        path, as the splits of images are of theirs.
      decoding: how frames become pixels.

    Raises:
      UserError: if there is no such split, or images lie where clips are expected.
    """
    layout = find_split(root, split)
    place = os.path.join(root, layout.folder)
    folders, left_out = layout.listing.folders, LeftOut(layout.listing.left_out)
    names = class_names(folders, place)
    clips: dict[str, tuple[int, list[str]]] = {}
    empty = 0
    for label, folder in enumerate(folders):
        inside = os.path.join(layout.folder, folder)
        frames = _frames(root, inside, left_out)
        empty += len({*list_folder(os.path.join(root, inside)).folders} - _below(inside, frames))
        clips.update((clip, (label, in_order(files))) for clip, files in frames.items())
    if layout.drawn:
        paths = sorted(clips)
        chosen = drawn([os.fsencode(clip) for clip in paths], layout.drawn)
        clips = {paths[n]: clips[paths[n]] for n in chosen.tolist()}
    if not clips:
        raise MissingSplit(f"no clips in {printable(place)}; expected {_EXPECTED}")
    return _opened(root, clips, names, left_out, empty, decoding)


def _opened(
    root: str,
    clips: Mapping[str, tuple[int, list[str]]],
    names: tuple[str, ...],
    left_out: LeftOut,
    empty: int,
    decoding: Decoding,
) -> FrameFiles:
    files = FileTable.of_paths(
        root, (os.path.join(clip, file) for clip, (_, files) in clips.items() for file in files)
    )
    images = _FrameImages(files, np.full(len(files), -1, np.int32), LeftOut(), decoding)
    said = [count(empty, "clip") + " without frames"] if empty else []
    return FrameFiles(
        images,
        [len(files) for _, files in clips.values()],
        [printable(clip) for clip in clips],
        root=printable(root),
        labels=np.array([label for label, _ in clips.values()], np.int32),
        class_names=names,
        left_out=", ".join([*said, *([str(left_out)] if left_out else [])]),
    )


def _frames(root: str, folder: str, left_out: LeftOut) -> dict[str, list[str]]:
    """The frames of each clip of a class, by the clip's path from the root."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in scan(root, folder, left_out):
        if run.folder == folder:
            raise UserError(
                f"{printable(os.path.join(root, folder))} holds images, where folders of frames "
                f"are expected: {_EXPECTED}"
            )
        found[run.folder] += run.images
    return found


def _below(folder: str, clips: Mapping[str, list[str]]) -> set[str]:
    """The folders right below one that clips lie in."""
    return {os.path.relpath(clip, folder).split(os.sep)[0] for clip in clips}
