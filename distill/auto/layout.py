"""Which kind of data a path holds, found by looking at it."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from distill.data.sources.decoding import suffixes
from distill.data.sources.formats import known_formats, parts_of, source_name
from distill.data.sources.layout import standard_name
from distill.data.sources.manifest import MANIFEST
from distill.data.sources.scanning import Listing, list_folder
from distill.errors import UserError
from distill.paths import download, in_bucket, is_repository, local_path

# What says by its suffix in which format it is, and the format's name.
_SHARDS = {
    "parquet": (".parquet", ".parq", ".pq"),
    "wds": (".tar", ".tar.gz", ".tgz"),
    "array_record": (".array_record",),
}
_LISTS = (".csv", ".tsv")
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
IN_SPLITS, IN_CLASSES = "root/split/class/image", "root/class/image"
"""Layouts of folders; of the second, splits are drawn."""
# Of classes that folders could be, so many images each on average at least.
_FEWEST = 2


class Found(NamedTuple):
    """What a user's words stand for."""

    source: str
    """A data source's name, such as `folder:PATH`."""
    layout: str
    """In words."""
    splits: tuple[str, ...] = ()
    """Folders that are called as splits are; empty where splits are drawn, or a source says."""


def find_data(text: str) -> Found:
    """Finds out what lies at a path; a source by its name is taken at its word.

    Args:
      text: a path, or a source's name such as `wds:PATH` or `digits`.

    Raises:
      UserError: if there is nothing there, or nothing that is known.
    """
    kind, argument, _ = parts_of(text)
    form = known_formats().get(kind)
    # What is both a path and a name is a path: `./digits` is one as well.
    if form is not None and bool(argument) == bool(form.argument) and not os.path.exists(text):
        source = source_name(text, "DATA")
        if kind == "folder" and not in_bucket(argument):
            return _as_folder(source.partition(":")[2])
        return Found(source, f"{form.spelled}, as you say")
    if in_bucket(text):
        raise UserError(
            f"DATA is {text!r}, in a bucket; say what it holds, such as folder:{text}, "
            f"images:{text}, wds:{text} or parquet:{text}"
        )
    path = local_path(text, "DATA")
    if not os.path.exists(path):
        raise UserError(_missing(text, path))
    return _file(path) if os.path.isfile(path) else _folder(path)


def _as_folder(path: str) -> Found:
    """A folder of folders that are classes, as the user says."""
    splits = ()
    if os.path.isdir(path):
        splits = tuple(name for name in list_folder(path).folders if standard_name(name))
    return Found(f"folder:{path}", IN_SPLITS if splits else IN_CLASSES, splits)


def _missing(text: str, path: str) -> str:
    if is_repository(text):
        return (
            f"there is no {path}. If {text} is a data set on Hugging Face: nothing is downloaded; "
            + download(text, folder="data", kind="dataset")
        )
    return (
        f"there is no {path}; give a folder of images, or a source by its name, such as "
        "wds:PATH, parquet:PATH or list:FILE.csv (docs/data.md)"
    )


def _file(path: str) -> Found:
    lower = path.lower()
    if lower.endswith(_LISTS):
        return Found(f"list:{path}", "a list of images")
    for kind, ends in _SHARDS.items():
        if lower.endswith(ends):
            return Found(f"{kind}:{path}", f"a file of {kind}")
    if os.path.splitext(lower)[1] in suffixes():
        raise UserError(f"{path} is one image; give the folder of many")
    raise UserError(
        f"{path} is no data that is known; give a folder of images, a .csv or .tsv list, .tar "
        "shards or Parquet files"
    )


def _folder(path: str) -> Found:
    entries = set(os.listdir(path))
    if MANIFEST in entries:
        return Found(f"prepared:{path}", "images that distill prepare has written")
    if entries.intersection(_SAVED):
        return Found(f"hf:{path}", "a data set that Hugging Face's datasets has saved")
    listing = list_folder(path)
    if not listing.images and (kind := _kind_of_shards(path)):
        return Found(f"{kind}:{path}", f"shards of {kind}")
    splits = tuple(name for name in listing.folders if standard_name(name))
    if not listing.images and any(_in_classes(os.path.join(path, one)) for one in splits):
        return Found(f"folder:{path}", IN_SPLITS, splits)
    if not splits and _in_classes(path):
        return Found(f"folder:{path}", IN_CLASSES)
    if listing.images or any(_images(path)):
        return Found(f"images:{path}", _unlabelled(listing))
    kinds = ", ".join(sorted(os.path.splitext(name)[1] or name for name in entries)[:5])
    raise UserError(
        f"no images under {path} (there is {kinds or 'nothing'}); give a folder of images, or a "
        "source by its name, such as wds:PATH (docs/data.md)"
    )


def why_no_classes(source: str, names: Sequence[str]) -> str | None:
    """What keeps images in folders from having classes to learn, and what to give; None of others.

    Args:
      source: the data source's name.
      names: its classes, fewer than two.
    """
    if len(names) == 1:
        return f"{source} has a single class, {names[0]}: give folders of two classes or more"
    kind, path, _ = parts_of(source)
    if kind != "images" or in_bucket(path) or not os.path.isdir(path):
        return None
    top = list_folder(path)
    if top.images or not top.folders:
        return None
    inside = {name: list_folder(os.path.join(path, name)) for name in top.folders}
    if any(one.folders or not one.images for one in inside.values()):
        return None
    count, folders = sum(len(one.images) for one in inside.values()), len(inside)
    if folders == 1:
        return f"{path} has a single class, {top.folders[0]}: give folders of two classes or more"
    return (
        f"{path} has {count} images in {folders} folders, too few for classes: give {_FEWEST} of "
        "each or more"
    )


def _unlabelled(listing: Listing) -> str:
    if not listing.folders:
        return "images in one folder, without classes"
    return "images in folders that do not look like classes (folder:PATH says that they are)"


def _kind_of_shards(path: str) -> str | None:
    """The format of files in a folder, or in the folders in it."""
    for name in _names(path, deep=2):
        for kind, ends in _SHARDS.items():
            if name.lower().endswith(ends):
                return kind
    return None


def _names(path: str, deep: int) -> Iterator[str]:
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if deep > 1:
                yield from _names(entry.path, deep - 1)
        else:
            yield entry.name


def _images(path: str) -> Iterator[str]:
    """Images under a folder at any depth."""
    for folder, names, _ in os.walk(path):
        names.sort()
        yield from list_folder(folder).images


def _in_classes(path: str) -> bool:
    """Whether a folder holds two classes or more: folders, with images in each and none beside.

    Folders in which there are other folders, or hardly an image each, stand for something else.
    """
    listing = list_folder(path)
    if listing.images or len(listing.folders) < 2:
        return False
    count = 0
    for name in listing.folders:
        inside = list_folder(os.path.join(path, name))
        if inside.folders or not inside.images:
            return False
        count += len(inside.images)
    return count >= _FEWEST * len(listing.folders)
