"""WebDataset: images and their labels in tar files, a key for what belongs together.

A key is a member's path up to the first dot of its base name
(https://github.com/webdataset/webdataset).
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from distill.data.sources.base import Source, printable
from distill.data.sources.class_lists import label_text
from distill.data.sources.decoding import suffixes
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import Found, Label, Shard, ShardImages
from distill.data.sources.indexed_images import check_unchanged
from distill.data.sources.indexing import open_index
from distill.data.sources.reading import persistently
from distill.data.sources.sharded import open_sharded
from distill.data.sources.shards import find_shards
from distill.data.sources.tar_members import DamagedTar, Member, TarWalk
from distill.errors import UserError

# Of several images of a key, the first of these is taken.
_PREFERRED = (".jpg", ".jpeg", ".png", ".webp")
_LABELS = (".cls", ".json")
# A label's file that is longer is none.
_LONGEST_LABEL = 1 << 20

_COMPRESSED = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd --rm",
}
_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class _Sample(NamedTuple):
    """What belongs to a key: its members by suffix."""

    members: dict[str, Member]

    def image(self) -> Member | None:
        for suffix in _PREFERRED:
            if suffix in self.members:
                return self.members[suffix]
        known = suffixes()
        return next((member for suffix, member in self.members.items() if suffix in known), None)


def scan_tar(path: str, shard: Shard) -> ShardImages:
    """Finds the images in a tar.

    Raises:
      UserError: if it is compressed or damaged, or a label in it cannot be read.
      RunFailed: if the system fails to read it.
    """
    return persistently(lambda: _scan(path, shard), path)


def _scan(path: str, shard: Shard) -> ShardImages:
    if not shard.size:
        raise UserError(f"{printable(path)} is empty, 0 bytes; expected a tar. Copy it again")
    with open(path, "rb", buffering=0) as file:
        check_unchanged(path, shard, os.fstat(file.fileno()))
        _refuse_compressed(path, os.pread(file.fileno(), 8, 0))
        walk = TarWalk(file.fileno(), shard.size)
        left_out: Counter[str] = Counter()
        try:
            samples = _samples(walk, left_out)
            found = list(_found(samples, file.fileno(), left_out))
        except DamagedTar as error:
            raise UserError(f"{printable(path)} {error}. Copy or pack it again") from error
        except UserError as error:
            raise UserError(f"{printable(path)}: {error}") from error
    remarks = []
    if not found:
        remarks.append(f"{shard.name} holds no images")
    if not walk.ended:
        remarks.append(f"{shard.name} lacks the mark at its end and may be cut off")
    about = Shard(
        shard.name, shard.size, shard.mtime_ns, 0, dict(sorted(left_out.items())), tuple(remarks)
    )
    return ShardImages.of(about, found)


def _refuse_compressed(path: str, beginning: bytes) -> None:
    for signature, program in _COMPRESSED.items():
        if beginning.startswith(signature):
            raise UserError(
                f"{printable(path)} is compressed, so that images in it cannot be read at random. "
                f"Unpack it: {program} '{printable(path)}' (images are compressed already)"
            )


def _samples(walk: TarWalk, left_out: Counter[str]) -> dict[bytes, _Sample]:
    """What belongs to each key, in the order of keys."""
    samples: dict[bytes, _Sample] = {}
    for member in walk:
        name = member.name[2:] if member.name.startswith(b"./") else member.name
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        # As in a folder: hidden files, and what macOS adds to archives.
        if dot == slash or name.startswith(b"__MACOSX/"):
            continue
        if dot < 0:
            left_out[""] += 1
            continue
        suffix = os.fsdecode(name[dot:]).lower()
        members = samples.setdefault(name[:dot], _Sample({})).members
        if (other := members.get(suffix)) is not None:
            raise UserError(
                f"{os.fsdecode(name)!r} is there twice, at byte {other.offset:,} and at byte "
                f"{member.offset:,}; each key must be one image's"
            )
        members[suffix] = Member(name, member.offset, member.size)
    return samples


def _found(samples: dict[bytes, _Sample], file: int, left_out: Counter[str]) -> Iterator[Found]:
    for key, sample in samples.items():
        image = sample.image()
        for suffix, member in sample.members.items():
            if member is not image and (image is None or suffix not in _LABELS):
                left_out[suffix] += 1
        if image is not None:
            yield Found(image.name, image.offset, image.size, _label(key, sample, file))


def _label(key: bytes, sample: _Sample, file: int) -> Label | None:
    """What `.cls` or the key `label` of `.json` says, else the folder that the image lies in."""
    for suffix in _LABELS:
        if (member := sample.members.get(suffix)) is None:
            continue
        try:
            text = _stated(os.pread(file, min(member.size, _LONGEST_LABEL), member.offset), suffix)
        except (ValueError, RecursionError, UserError) as error:
            raise UserError(
                f"the label {os.fsdecode(member.name)!r} cannot be read: {error}"
            ) from error
        if text is not None:
            return Label(text)
    folder = os.path.basename(os.path.dirname(key))
    text = label_text(os.fsdecode(folder)) if folder else None
    return Label(text, is_folder=True) if text else None


def _stated(content: bytes, suffix: str) -> str | None:
    text = content.decode("utf-8")
    if suffix == ".cls":
        return label_text(text)
    about = json.loads(text)
    return label_text(about.get("label")) if isinstance(about, dict) else None


def _open(request: Request) -> Source:
    shards = find_shards(
        request.argument,
        lambda name: name.lower().endswith(_SUFFIXES),
        "a folder with *.tar, a pattern such as train-{000000..000146}.tar, or train-*.tar",
    )
    index = open_index("wds", shards, scan_tar)
    return open_sharded(request, index)


FORMATS = (Format(name="wds", argument="PATH", open=_open),)
