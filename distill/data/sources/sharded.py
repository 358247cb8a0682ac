"""Splits of images in shards: shards are named as splits, or splits are drawn from all."""

import os
import re
from collections.abc import Callable

from distill.data.sources.base import Source, printable
from distill.data.sources.class_lists import read_class_names
from distill.data.sources.formats import Request
from distill.data.sources.image_index import ImageIndex
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.layout import pick_split, standard_name
from distill.data.sources.shards import Shards
from distill.data.sources.splits import open_parts

_SEPARATORS = re.compile(r"[-_.]+")
# What is left of a shard's name without its number and how many there are.
_NUMBER = re.compile(r"[-_.]*\d*([-_.]of[-_.]\d+)?(\.[a-z_]+)*$", re.IGNORECASE)


def split_of(shard: str) -> str:
    """What a shard's path from the root says of its split: a folder, or a part of its name.

    Such as `train` of `train/0.tar`, `train-000.tar`, `more/train-001.tar` and
    `imagenet-train-000-of-147.tar`. Where none of them is a split's usual name, it is the outermost
    folder, but for `data`, in which Hugging Face has the shards of all splits; without one, of
    `flowers-000.tar`, it is `flowers`.
    """
    *folders, name = shard.split(os.sep)
    usual = [part for part in (*folders, *_SEPARATORS.split(name)) if standard_name(part)]
    if usual:
        return usual[0]
    return folders[0] if folders and folders[0] != "data" else _NUMBER.sub("", name)


def open_sharded(
    request: Request,
    shards: Shards,
    index: ImageIndex,
    kind: Callable[..., IndexedImages] = IndexedImages,
    *,
    class_names: tuple[str, ...] = (),
    split_of: Callable[[str], str] = split_of,
) -> Source:
    """Opens what a request asks for of the images in shards.

    Args:
      request: of a split, or slices.
      shards: which there are.
      index: of all of them.
      kind: reads them; takes what `IndexedImages` takes.
      class_names: in order; empty takes those of a list beside the shards, if there is one.
      split_of: what a shard's path says of its split.

    Raises:
      UserError: if there is no such split, or an image has a label that is none of the listed
        classes.
    """
    names = [split_of(shard.name) for shard in index.shards]
    class_names = class_names or read_class_names(index.root)

    def whole(split: str) -> IndexedImages:
        what = f"{index.kind.partition('-')[0]}:{printable(request.argument)}"
        name, bounds = pick_split(split, list(dict.fromkeys(names)), what)
        chosen = [number for number, one in enumerate(names) if name in (None, one)]
        return kind(
            index,
            request.decoding,
            class_names=class_names,
            folder=index.root,
            shards=chosen,
            bounds=bounds,
            beside=shards.left_out,
        )

    return open_parts(request.split, whole)
