"""Splits of images in shards: shards are named as splits, or splits are drawn from all."""

import os
import re

from distill.data.sources.base import Source, printable
from distill.data.sources.class_lists import read_class_names
from distill.data.sources.formats import Request
from distill.data.sources.image_index import ImageIndex
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.layout import pick_split, standard_name
from distill.data.sources.splits import open_parts

_SEPARATORS = re.compile(r"[-_.]+")
# What is left of a shard's name without its number and how many there are.
_NUMBER = re.compile(r"[-_.]*\d*([-_.]of[-_.]\d+)?(\.[a-z_]+)*$", re.IGNORECASE)


def split_of(shard: str) -> str:
    """What a shard's path from the root says of its split: its folder, or a part of its name.

    Such as `train` of `train/0.tar`, `train-000.tar` and `imagenet-train-000-of-147.tar`. Of
    `flowers-000.tar` it is `flowers`, which is no split's usual name.
    """
    folder, name = os.path.split(shard)
    if folder:
        return folder.split(os.sep)[0]
    named = [part for part in _SEPARATORS.split(name) if standard_name(part)]
    return named[0] if named else _NUMBER.sub("", name)


def open_sharded(
    request: Request, index: ImageIndex, kind: type[IndexedImages] = IndexedImages
) -> Source:
    """Opens what a request asks for of the images in shards.

    Args:
      request: of a split, or slices.
      index: of all shards.
      kind: reads them.

    Raises:
      UserError: if there is no such split, or an image has a label that is none of the listed
        classes.
    """
    names = [split_of(shard.name) for shard in index.shards]
    class_names = read_class_names(index.root)

    def whole(split: str) -> IndexedImages:
        what = f"{index.kind}:{printable(request.argument)}"
        name, bounds = pick_split(split, list(dict.fromkeys(names)), what)
        chosen = [number for number, one in enumerate(names) if name in (None, one)]
        return kind(
            index,
            request.decoding,
            class_names=class_names,
            folder=index.root,
            shards=chosen,
            bounds=bounds,
        )

    return open_parts(request.split, whole)
