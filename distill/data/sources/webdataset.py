"""WebDataset: images and their labels in tar files, a key for what belongs together.

A key is a member's path up to the first dot of its base name
(https://github.com/webdataset/webdataset).
"""

import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from distill.data.sources.base import Source, cached_property, fingerprint_of, printable
from distill.data.sources.captions import SUFFIX, captions_of_file
from distill.data.sources.class_lists import label_text
from distill.data.sources.decoding import Decoding, suffixes
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import ImageIndex, Label, Shard, ShardImages
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.indexing import open_index
from distill.data.sources.places import storage_of
from distill.data.sources.reading import persistently
from distill.data.sources.sharded import open_sharded
from distill.data.sources.shards import find_shards
from distill.data.sources.tar_members import DamagedTar, TarWalk
from distill.errors import UserError

# Of several images of a key, the first of these is taken.
_PREFERRED = (".jpg", ".jpeg", ".png", ".webp")
_LABELS = (".cls", ".json")
# The rank of what is no image, or no label.
_NONE = 1 << 30
# A label's file that is longer is none.
_LONGEST_LABEL = 1 << 20

_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd --rm",
}
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def scan_tar(path: str, shard: Shard) -> ShardImages:
    """Finds the images in a tar.

    Raises:
      UserError: if it is compressed or damaged, or a label in it cannot be read.
      RunFailed: if the system fails to read it.
    """
    samples, walk = persistently(lambda: _scan(path, shard), path)
    return samples.in_shard(shard, walk.left_out, ended=walk.ended)


def scan_captions(path: str, shard: Shard) -> ShardImages:
    """As `scan_tar`, but finds the captions of each image; their length is 0 where it has none."""
    samples, _ = persistently(lambda: _scan(path, shard), path)
    return samples.captions_in_shard(shard)


def _scan(path: str, shard: Shard) -> "tuple[_Samples, TarWalk]":
    samples = _Samples()
    with storage_of(path).opened(path, shard) as file:
        if not (beginning := file.read(8, 0)):
            raise UserError(f"{printable(path)} is empty, 0 bytes; expected a tar. Copy it again")
        _refuse_compressed(path, beginning)
        walk = TarWalk(file)
        try:
            for name, offset, size in walk:
                samples.add(name, offset, size, walk.read)
        except DamagedTar as error:
            raise UserError(f"{printable(path)} {error}. Copy or pack it again") from error
        except UserError as error:
            raise UserError(f"{printable(path)}: {error}") from error
    return samples, walk


def _refuse_compressed(path: str, beginning: bytes) -> None:
    for signature, program in _COMPRESSED.items():
        if beginning.startswith(signature):
            raise UserError(
                f"{printable(path)} is compressed, so that images in it cannot be read at random. "
                f"Unpack it: {program} '{printable(path)}' (images are compressed already)"
            )


class _Samples:
    """What a tar's members make, by key, in the order of keys; lists, as objects would be many."""

    def __init__(self):
        self._numbers: dict[bytes, int] = {}
        # Of each key: its image, that image's rank, its label and the rank of that, and a bit for
        # each suffix that it has.
        self._names: list[bytes] = []
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._ranks: list[int] = []
        self._labels: list[Label | None] = []
        self._label_ranks: list[int] = []
        self._captions: dict[int, tuple[int, int]] = {}
        self._seen: list[int] = []
        self._suffixes = _Suffixes()
        self._folders: dict[bytes, Label | None] = {}
        self._stated: dict[bytes, Label | None] = {}
        self._left_out: Counter[str] = Counter()

    def add(self, name: bytes, offset: int, size: int, read: Callable[[int, int], bytes]) -> None:
        """Takes up a member.

        Args:
          name: of it.
          offset: of its bytes.
          size: how many they are.
          read: a part of the tar, from an offset.

        Raises:
          UserError: if it is there twice, or is a label that cannot be read.
        """
        if name.startswith(b"./"):
            name = name[2:]
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        # As in a folder: hidden files, and what macOS adds to archives.
        if dot == slash or name.startswith(b"__MACOSX/"):
            return
        if dot < 0:
            self._left_out[""] += 1
            return
        suffix = self._suffixes[name[dot:]]
        number = self._number(name[:dot], name[:slash])
        if self._seen[number] & suffix.bit:
            raise UserError(
                f"{_shown(name)} is there twice, for the second time at byte {offset:,}; "
                "each key must be one image's"
            )
        self._seen[number] |= suffix.bit
        if suffix.rank < self._ranks[number]:
            self._names[number] = name
            self._offsets[number], self._sizes[number] = offset, size
            self._ranks[number] = suffix.rank
        elif suffix.text == SUFFIX:
            self._captions[number] = (offset, size)
        elif suffix.label_rank < self._label_ranks[number]:
            content = read(offset, min(size, _LONGEST_LABEL))
            if (label := self._label(name, suffix.text, content)) is not None:
                self._labels[number], self._label_ranks[number] = label, suffix.label_rank

    def _number(self, key: bytes, folder: bytes) -> int:
        """The number of a key, which is new or not."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self._names.append(b"")
            self._offsets.append(0)
            self._sizes.append(0)
            self._ranks.append(_NONE)
            if folder not in self._folders:
                self._folders[folder] = _folder_label(folder)
            self._labels.append(self._folders[folder])
            self._label_ranks.append(_NONE)
            self._seen.append(0)
        return number

    def _label(self, name: bytes, suffix: str, content: bytes) -> Label | None:
        """What a member says, which is decoded once of all that say it."""
        known = suffix.encode() + content
        if known not in self._stated:
            try:
                text = _stated(content, suffix)
            except (ValueError, RecursionError, UserError) as error:
                raise UserError(f"the label {_shown(name)} cannot be read: {error}") from error
            label = None if text is None else Label(text)
            if suffix != ".cls":
                return label
            self._stated[known] = label
        return self._stated[known]

    @property
    def _places(self) -> list[int]:
        """The numbers of keys that have an image."""
        return [place for place, rank in enumerate(self._ranks) if rank < _NONE]

    def captions_in_shard(self, shard: Shard) -> ShardImages:
        """Where each image's captions are, in the order of `in_shard`."""
        found = [self._captions.get(place, (0, 0)) for place in self._places]
        offsets, sizes = [offset for offset, _ in found], [size for _, size in found]
        return ShardImages.of(shard, [b""] * len(found), offsets, sizes, [None] * len(found))

    def in_shard(self, shard: Shard, left_out: Counter[str], *, ended: bool) -> ShardImages:
        """The images, and what else there is.

        Args:
          shard: in which they lie.
          left_out: what of the tar is no file.
          ended: whether it has its end mark.
        """
        places = self._places
        remarks = [] if places else [f"{shard.name} holds no images"]
        if not ended:
            remarks.append(f"{shard.name} lacks the mark at its end and may be cut off")
        others = left_out + self._left_out + self._suffixes.left_out(self._seen, self._ranks)
        about = dataclasses.replace(
            shard, left_out=dict(sorted(others.items())), remarks=tuple(remarks)
        )
        return ShardImages.of(
            about,
            [self._names[place] for place in places],
            [self._offsets[place] for place in places],
            [self._sizes[place] for place in places],
            [self._labels[place] for place in places],
        )


class _Suffix(NamedTuple):
    text: str
    bit: int
    rank: int
    """As an image's, the lowest first; `_NONE` for others."""
    label_rank: int
    """As a label's."""


class _Suffixes(dict[bytes, _Suffix]):
    """What members' suffixes mean, as they come."""

    def __missing__(self, written: bytes) -> _Suffix:
        text = os.fsdecode(written).lower()
        same = next((one for one in self.values() if one.text == text), None)
        if same is None:
            images, labels = [*_PREFERRED, *sorted(suffixes() - {*_PREFERRED})], [*_LABELS]
            ranks = (one.index(text) if text in one else _NONE for one in (images, labels))
            same = _Suffix(text, 1 << len(self), *ranks)
        self[written] = same
        return same

    def left_out(self, seen: list[int], ranks: list[int]) -> Counter[str]:
        """What is neither an image that is read nor its label, counted by suffix."""
        counts: Counter[str] = Counter()
        known = {suffix.bit: suffix for suffix in self.values()}
        for (bits, rank), times in Counter(zip(seen, ranks, strict=True)).items():
            for bit, suffix in known.items():
                label = suffix.label_rank < _NONE and rank < _NONE
                if bits & bit and not label and (suffix.rank == _NONE or suffix.rank != rank):
                    counts[suffix.text] += times
        return counts


def _folder_label(folder: bytes) -> Label | None:
    """What the folder that an image lies in, if any, says of it."""
    text = label_text(os.fsdecode(os.path.basename(folder[:-1])))
    return Label(text, is_folder=True) if text else None


def _shown(name: bytes) -> str:
    return repr(printable(os.fsdecode(name)))


def _stated(content: bytes, suffix: str) -> str | None:
    text = content.decode("utf-8-sig")
    if suffix == ".cls":
        return label_text(text)
    about = json.loads(text)
    return label_text(about.get("label")) if isinstance(about, dict) else None


class CaptionedShards(IndexedImages):
    """Images in tars, each with its captions.

    Args:
      captions: where those of each image of the index are.
      index: of the images.
      decoding: see `IndexedImages`, as what follows.
    """

    def __init__(self, captions: ImageIndex, index: ImageIndex, decoding: Decoding, **options: Any):
        super().__init__(index, decoding, **options)
        self._captions = captions
        self._shards = tuple(map(_without_captions, self._shards))

    def captions(self, index: int) -> tuple[str, ...]:
        """The lines of the sample's `.txt`."""
        return captions_of_file(self._part(self._captions, index), self.describe(index))

    @cached_property
    def fingerprint(self) -> str:
        """Of the images' fingerprint and the sizes of their captions."""
        sizes = self._captions.entries["length"][self._rows].tobytes()
        return fingerprint_of(super().fingerprint, sizes)


def _without_captions(shard: Shard) -> Shard:
    """A shard of whose captions it is not said that they are left out."""
    others = {suffix: count for suffix, count in shard.left_out.items() if suffix != SUFFIX}
    return dataclasses.replace(shard, left_out=others)


def _open(request: Request) -> Source:
    shards = find_shards(
        request.argument,
        lambda name: name.lower().endswith(_SUFFIXES),
        "a folder with *.tar, a pattern such as train-{000000..000146}.tar, or train-*.tar",
    )
    index = open_index("wds", shards, scan_tar)
    if not request.captions:
        return open_sharded(request, shards, index)
    captions = open_index("wds-captions", shards, scan_captions)
    if not all(map(Shard.is_as, index.shards, captions.shards)):
        raise UserError(
            f"shards of {printable(index.root)} change while they are indexed; run the command "
            "again when they are written"
        )
    return open_sharded(request, shards, index, functools.partial(CaptionedShards, captions))


FORMATS = (Format(name="wds", argument="PATH", in_buckets=True, open=_open),)
