"""The splits of a source written as shards, with an index of each split and a manifest."""

import contextlib
import dataclasses
import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import distill
from distill.data.fast import MAX_PIXELS
from distill.data.preparing.parts import Part, Written, write_part, writing
from distill.data.preparing.processes import Progress, in_processes
from distill.data.sources.base import (
    MissingSplit,
    Source,
    abbreviate,
    attributes_of,
    count,
    printable,
    version_of,
)
from distill.data.sources.image_index import ImageIndex, Label, Shard, ShardImages, write_index
from distill.data.sources.manifest import (
    FORMS,
    MANIFEST,
    UNFINISHED,
    Form,
    Manifest,
    PreparedSplit,
)
from distill.data.sources.opening import open_source
from distill.data.sources.prepared import KIND, has_order, index_file, order_checksum, order_file
from distill.data.sources.splits import parse_split, slicing_order
from distill.data.sources.together import opened_together
from distill.data.workers import cores
from distill.errors import RunFailed, UserError
from distill.json_files import read_json, write_json
from distill.paths import check_utf8

Say = Callable[[str], None]
"""Takes a line for a person."""

# Those that a source has of these, where nobody says which.
_SPLITS = ("train", "validation", "test")
_NAME = re.compile(r"\w[\w.-]*")
# Each process keeps all shards of a split open, and systems allow 1,024 files or so.
_SHARDS, _FEWEST_IMAGES = 256, 1024
_CLAIM = "claim.json"
# Corrupt images that are named.
_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is to be written, and where."""

    source: str
    """Its name, such as `folder:PATH`."""
    output: Path
    """A directory of its own."""
    splits: tuple[str, ...] = ()
    """None takes those of train, validation and test that the source has."""
    data_dir: str | None = None
    """Where TFDS keeps its data sets; None for its default."""
    restarts: bool = True
    """Whether JPEGs are given restart markers, so that parts of them can be decoded alone."""
    workers: int | None = None
    """Processes; 0 works in this one, None takes one for each core."""
    form: Form = FORMS[0]
    """Kind of the shards."""
    max_pixels: int = MAX_PIXELS
    """Of an image; one that declares more is stored as it is, and counts as corrupt."""
    images_per_shard: int | None = None
    """None takes 1,024, or more where a split would have more than 256 shards."""

    @property
    def processes(self) -> int:
        """How many there are."""
        return cores() if self.workers is None else self.workers

    def parts(self, split: str, images: int) -> list[Part]:
        """What of a split of so many images is written into one shard."""
        size = self.images_per_shard or max(_FEWEST_IMAGES, -(-images // _SHARDS))
        starts = range(0, images, size)
        return [
            Part(split, number, len(starts), start, min(start + size, images), self.form)
            for number, start in enumerate(starts)
        ]


def prepare(preparation: Preparation, say: Say) -> Manifest:
    """Writes what is not there yet.

    Raises:
      UserError: if the source cannot be prepared, or the directory holds something else.
      RunFailed: if the system fails, or the source changes meanwhile; what is finished stays.
    """
    folder, sources = preparation.output, open_sources(preparation, say)
    if preparation.form == "array_record":
        check_utf8(folder, "--output")
    _check_directory(folder, preparation.source)
    with _locked(folder):
        if (folder / MANIFEST).exists():
            manifest = _mended(preparation, sources, say)
        else:
            manifest = _written(preparation, sources, say)
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    return manifest


def open_sources(preparation: Preparation, say: Say) -> dict[str, Source]:
    """The splits that are to be written, by name.

    Raises:
      UserError: if one cannot be opened, or holds more than images and labels.
    """
    with opened_together():
        return _open_sources(preparation, say)


def _open(preparation: Preparation, split: str) -> Source:
    return open_source(
        preparation.source,
        split,
        channels=3,
        data_dir=preparation.data_dir,
        max_pixels=preparation.max_pixels,
    )


def _open_sources(preparation: Preparation, say: Say) -> dict[str, Source]:
    opened, missing = {}, []
    for split in preparation.splits or _SPLITS:
        if len(parts := parse_split(split)) > 1 or parts[0].start is not parts[0].stop:
            raise UserError(
                f"--split has {split!r}; expected a whole split, of which {KIND}:PATH can then be "
                "sliced"
            )
        if not _NAME.fullmatch(split):
            raise UserError(f"--split has {split!r}; expected a name of letters, digits, _, . or -")
        try:
            opened[split] = _open(preparation, split)
        except MissingSplit as error:
            if preparation.splits:
                raise
            missing.append(error)
            say(f"there is no {split}: {error}")
            continue
        what = f"split {split!r} of {preparation.source}"
        _check(opened[split], what)
        say(f"{split}: {opened[split].found}")
        if attributes := attributes_of(opened[split], 0):
            say(
                f"warning: {what} also says of its images {abbreviate(tuple(attributes))}, which "
                "prepared data does not hold: what asks for it has to read the source itself"
            )
    if not opened:
        raise missing[0]
    return opened


def _check(source: Source, what: str) -> None:
    if others := source.spec.keys() - {"image", "label"}:
        raise UserError(
            f"{what} holds more than images and labels ({', '.join(sorted(others))}), which is not "
            "kept in prepared data; read it as it is"
        )
    if len({*source.class_names}) < len(source.class_names):
        raise UserError(f"{what} has classes of the same name; give them names of their own")


def _check_directory(folder: Path, source: str) -> None:
    """Checks that the directory may be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {*os.listdir(folder)}
    except OSError as error:
        raise UserError(f"--output: cannot write to {folder}: {error.strerror}") from error
    if there and not there & {MANIFEST, UNFINISHED}:
        shown = ", ".join(map(printable, sorted(there)[:3]))
        raise UserError(
            f"--output: {printable(str(folder))} holds something else ({shown}); name a new "
            "directory"
        )
    path = source.partition(":")[2]
    if os.path.isdir(path) and folder.resolve().is_relative_to(Path(path).resolve()):
        raise UserError(
            f"--output: {printable(str(folder))} lies in the source itself; name a directory "
            "elsewhere"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps others from writing to the directory."""
    with writing(folder / UNFINISHED):
        (folder / UNFINISHED).mkdir(exist_ok=True)
    with (folder / UNFINISHED / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing to {folder}; wait for its end") from error
        yield


def _written(preparation: Preparation, sources: dict[str, Source], say: Say) -> Manifest:
    """Writes all shards that are not there, then what says what they hold."""
    folder = preparation.output
    plan = {split: preparation.parts(split, len(one)) for split, one in sources.items()}
    claim = {
        "restarts": preparation.restarts,
        "splits": {split: one.fingerprint for split, one in sources.items()},
        "shards": {split: len(parts) for split, parts in plan.items()},
        "form": preparation.form,
        "max_pixels": preparation.max_pixels,
    }
    _claim(folder, claim)
    _write(preparation, sources, [*itertools.chain(*plan.values())], say)
    _check_unchanged(preparation, sources)
    found = {split: _finish(folder, sources[split], plan[split], say) for split in sources}
    manifest = Manifest(
        source=preparation.source,
        distill=distill.__version__,
        restarts=preparation.restarts,
        max_pixels=preparation.max_pixels,
        splits=found,
    )
    with writing(folder / MANIFEST):
        manifest.write(folder)
    return manifest


def _write(
    preparation: Preparation, sources: dict[str, Source], parts: list[Part], say: Say
) -> None:
    progress = Progress(say, "prepared", sum(part.stop - part.start for part in parts))
    how = preparation.restarts, preparation.max_pixels
    about = (sources, preparation.output, *how)
    in_processes(write_part, [(part,) for part in parts], about, preparation.processes, progress)


def _claim(folder: Path, claim: dict[str, Any]) -> None:
    """Notes what is being written, so that only the same is gone on with."""
    file = folder / UNFINISHED / _CLAIM
    # Earlier versions wrote but one kind of shards, and of images of so many pixels.
    earlier = {"form": FORMS[0], "max_pixels": MAX_PIXELS}
    there = earlier | read_json(file) if file.exists() else claim
    if there != claim:
        different = [key for key, value in claim.items() if there.get(key) != value]
        raise UserError(
            f"{printable(str(folder))} holds other data that is not finished "
            f"({', '.join(different)} differ): another source, or one that has changed. Delete it, "
            "or name a new directory"
        )
    with writing(file):
        write_json(file, claim, checked=True)


def _check_unchanged(preparation: Preparation, sources: Mapping[str, Source]) -> None:
    """Checks that the source is what was read at the start."""
    with opened_together():
        opened = {split: _open(preparation, split) for split in sources}
    for split, before in sources.items():
        again = opened[split]
        if (again.fingerprint, version_of(again)) != (before.fingerprint, version_of(before)):
            raise RunFailed(
                f"split {split!r} of {preparation.source} has changed while it was prepared. "
                f"Delete {printable(str(preparation.output))}, and run the same command again"
            )


def _finish(folder: Path, source: Source, parts: list[Part], say: Say) -> PreparedSplit:
    """Writes the index of a split whose shards are finished; what the manifest says of it."""
    labels, content, shards, marked, corrupt = source.labels, [], [], 0, []
    for part in parts:
        written = Written.noted(folder, part)
        own = [
            Label(source.class_names[label]) if label >= 0 else None
            for label in labels[part.start : part.stop].tolist()
        ]
        names = [os.fsencode(name) for name in written.names]
        about = Shard(part.file, written.size, 0)
        offsets = written.offsets or range(len(names))
        content.append(ShardImages.of(about, names, offsets, written.lengths, own))
        shards.append(written.shard(part))
        marked += written.marked
        corrupt += written.corrupt
    split = parts[0].split
    path = folder / index_file(split)
    with writing(path):
        write_index(str(path), KIND, content)
    order = _write_order(folder, split, source)
    for one in corrupt[:_NAMED]:
        say(f"warning: corrupt image {one}")
    if len(corrupt) > _NAMED:
        say(f"warning: {len(corrupt) - _NAMED:,} other images of {split} are corrupt")
    return PreparedSplit(
        fingerprint=source.fingerprint,
        version=version_of(source),
        class_names=source.class_names,
        images=len(source),
        marked=marked,
        corrupt=len(corrupt),
        index=ImageIndex(str(path), str(folder)).digest,
        order=order,
        shards=tuple(shards),
    )


def _write_order(folder: Path, split: str, source: Source) -> str | None:
    """Writes the order of slices, where that is not the split's own; its checksum."""
    order = slicing_order(source).astype("<i8")
    if (order == np.arange(len(order))).all():
        return None
    with writing(folder / order_file(split)):
        np.save(folder / order_file(split), order)
    return order_checksum(order)


def _mended(preparation: Preparation, sources: dict[str, Source], say: Say) -> Manifest:
    """What is there, if it is of these sources; shards that are missing are written anew."""
    folder, manifest = preparation.output, Manifest.read(preparation.output)
    where = printable(str(folder))
    _check_same(preparation, sources, manifest)
    missing = {}
    for split in sources:
        about = manifest.splits[split]
        parts = zip(parts_of(split, about), about.shards, strict=True)
        missing |= {part: shard for part, shard in parts if not shard.is_in(folder)}
        if about.order is not None and not has_order(folder, split, about.order):
            _write_order(folder, split, sources[split])
    if missing:
        _write(preparation, sources, [*missing], say)
    for part, shard in missing.items():
        if Written.noted(folder, part).shard(part) != shard:
            raise RunFailed(
                f"{shard.name} was written anew and is another one than before: the source has "
                f"changed, or its libraries. Delete {where}, and run the same command again"
            )
    anew = f"; {count(len(missing), 'shard')} written anew" if missing else ""
    say(f"{where} holds all of it already{anew}")
    return manifest


def _check_same(
    preparation: Preparation, sources: Mapping[str, Source], manifest: Manifest
) -> None:
    """Checks that what is there was prepared from these sources, in this way."""
    where = printable(str(preparation.output))
    for split, source in sources.items():
        there = manifest.splits.get(split)
        if there is None or there.fingerprint != source.fingerprint:
            what = "does not hold" if there is None else "holds another"
            raise UserError(
                f"{where} {what} split {split!r} of {preparation.source}: it was prepared from "
                f"{manifest.source}, {', '.join(manifest.splits)}. Name a new directory, or delete "
                "it if the source has changed"
            )
    if odd := [split for split in sources if manifest.splits[split].form != preparation.form]:
        form = manifest.splits[odd[0]].form
        raise UserError(f"{where} was prepared with --shards={form}; name a new directory")
    if manifest.restarts != preparation.restarts:
        asked = "with" if preparation.restarts else "without"
        raise UserError(f"{where} was not prepared {asked} restart markers; name a new directory")
    if manifest.max_pixels != preparation.max_pixels:
        raise UserError(
            f"{where} was prepared with --max_pixels={manifest.max_pixels}; name a new directory"
        )


def parts_of(split: str, about: PreparedSplit) -> list[Part]:
    """The parts of a split that has been prepared, of each of its shards one."""
    ends = np.cumsum([0, *(shard.images for shard in about.shards)]).tolist()
    return [
        Part(split, number, len(about.shards), start, stop, about.form)
        for number, (start, stop) in enumerate(itertools.pairwise(ends))
    ]
