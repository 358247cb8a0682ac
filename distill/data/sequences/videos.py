"""Video files, each in the folder of its class, decoded by PyAV."""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from distill.data.fast import MAX_PIXELS
from distill.data.sequences.frame_counts import FrameCounts
from distill.data.sources.base import (
    CorruptImage,
    MissingSplit,
    cached_property,
    count,
    printable,
)
from distill.data.sources.decoding import check_size
from distill.data.sources.file_table import FileTable
from distill.data.sources.folders import fingerprint_and_version
from distill.data.sources.layout import class_names, drawn, find_split
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import LeftOut, scan
from distill.data.spec import Example, labelled_images
from distill.errors import UserError

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""Of video files, in lower case with their dots."""


def pyav() -> Any:
    """PyAV, which decodes.

    Raises:
      UserError: if it is not installed.
    """
    try:
        import av
        import av.error
    except ImportError as error:
        raise UserError(
            "videos:PATH is read with PyAV, which is not installed: pip install -e '.[video]'. "
            "PyAV is under the BSD licence, but its wheels bundle x264 and x265, which are under "
            "the GPL. Frames that are images need none of it: write them as SPLIT/CLASS/CLIP/"
            "00000.jpg, and name clips:PATH"
        ) from error
    return av


class Videos:
    """The videos of `root/split/CLASS/`, or of `root/CLASS/` what a split draws.

    A frame's number counts the frames that are decoded, from 0, whatever times the file gives them.
    They are not turned as the file may say.

    Args:
      root: the folder.
      split: its name, or another for the same.
      channels: 1 for grey or 3 for colour.
      max_pixels: of a frame; a video that declares more is corrupt.

    Raises:
      UserError: if there is no such split, or no PyAV.
    """

    decodes_from_start = True

    def __init__(self, root: str, split: str, channels: int, max_pixels: int = MAX_PIXELS):
        decoder = pyav().__version__
        self._max_pixels = max_pixels
        layout = find_split(root, split)
        self.spec = labelled_images(channels)
        self.class_names = class_names(layout.listing.folders, os.path.join(root, layout.folder))
        left_out = LeftOut(layout.listing.left_out)
        paths, labels = [], []
        for label, folder in enumerate(layout.listing.folders):
            for run in scan(root, os.path.join(layout.folder, folder), left_out, also=SUFFIXES):
                for name in run.images:
                    suffix = os.path.splitext(name)[1].lower()
                    if suffix not in SUFFIXES:
                        left_out[suffix] += 1
                        continue
                    paths.append(os.path.join(run.folder, name))
                    labels.append(label)
        if not paths:
            raise MissingSplit(
                f"no videos in {printable(os.path.join(root, layout.folder))}; expected SPLIT/CLASS"
                f"/x.mp4, in files named {' '.join(sorted(SUFFIXES))}"
            )
        files, self.labels = FileTable.of_paths(root, paths), np.array(labels, np.int32)
        if layout.drawn:
            chosen = drawn(files.relative(), layout.drawn)
            files, self.labels = files.take(chosen), self.labels[chosen]
        self._files, self._left_out = files, str(left_out)
        self._counted: dict[int, int] = {}
        # Nothing tells whether a file in a bucket is another by now.
        kept = None if self.is_remote else FrameCounts(root, files, [decoder, max_pixels])
        self._kept = kept

    def __len__(self) -> int:
        return len(self._files)

    def frames(self, index: int) -> int:
        """How many frames a video has, for which it is decoded, once on a machine.

        Raises:
          CorruptImage: if it cannot be decoded.
          RunFailed: if the system cannot read it.
        """
        if index not in self._counted:
            count = functools.partial(self._count, index)
            self._counted[index] = self._kept.count(index, count) if self._kept else count()
        return self._counted[index]

    def _count(self, index: int) -> int:
        return sum(1 for _ in self._decoded(index))

    def read(self, index: int, frames: Sequence[int] | np.ndarray) -> list[Example]:
        """Decodes a video up to the last of some of its frames.

        Raises:
          CorruptImage: if it cannot be decoded, or ends before a frame.
          RunFailed: if the system cannot read it.
        """
        wanted = {int(frame) for frame in frames}
        if min(wanted) < 0:
            raise ValueError(f"frames are numbered from 0, not {min(wanted)}")
        found, last, number = {}, max(wanted), -1
        for number, frame in enumerate(self._decoded(index)):
            if number in wanted:
                found[number] = self._pixels(frame)
            if number == last:
                break
        if len(found) < len(wanted):
            raise CorruptImage(f"it ends after {count(number + 1, 'frame')}, before frame {last}")
        label = self.labels[index]
        return [{"image": found[int(frame)], "label": label} for frame in frames]

    def _decoded(self, index: int) -> Iterator[Any]:
        av, path = pyav(), self._files.path(index)
        data = storage_of(path).read(path)
        empty = True
        try:
            with av.open(io.BytesIO(data)) as container:
                if not container.streams.video:
                    raise CorruptImage("it holds no video")
                stream = container.streams.video[0]
                check_size(stream.width, stream.height, self._max_pixels)
                # Frames of several threads come in order, and are the same.
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    empty = False
                    check_size(frame.width, frame.height, self._max_pixels)
                    yield frame
        except av.error.FFmpegError as error:
            raise CorruptImage(str(error)) from error
        if empty:
            raise CorruptImage("it holds no frames")

    def _pixels(self, frame: Any) -> np.ndarray:
        """Uint8 [height, width, channels]."""
        pixels = frame.to_ndarray(format="rgb24")
        if self.spec["image"].shape[-1] == 3:
            return pixels
        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]

    def describe(self, index: int) -> str:
        """The file's path."""
        return printable(self._files.path(index))

    def name(self, index: int) -> str:
        """The file's path from the root."""
        return printable(self._files.relative_path(index))

    @property
    def found(self) -> str:
        """How many videos and classes there are, and what else lies there."""
        classes = count(len(self.class_names), "class", "classes")
        left_out = f"; left out {self._left_out}" if self._left_out else ""
        return f"{count(len(self), 'video')} in {classes}{left_out}"

    @property
    def is_remote(self) -> bool:
        """Whether they lie in a bucket."""
        storage = self._files.storage
        return storage is None or storage.is_remote

    @property
    def fingerprint(self) -> str:
        """Of the files' paths from the root and sizes in order, and the classes' names."""
        return self._asked[0]

    @property
    def version(self) -> str:
        """Of the files' times of change."""
        return self._asked[1]

    @cached_property
    def _asked(self) -> tuple[str, str]:
        return fingerprint_and_version(self._files, self.class_names)
