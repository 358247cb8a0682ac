"""Where images come from: random-access collections of images, most of them labelled.

A source is named in a config by one string, such as `digits`, `folder:PATH` or `tfds:NAME`; see
docs/data.md. `IndexedImages` are images in shards, by an index (`ImageIndex`).
"""

from distill.data.sources.base import (
    CorruptImage,
    Source,
    abbreviate,
    attributes_of,
    captions_of,
)
from distill.data.sources.decoding import decode
from distill.data.sources.digits import Digits
from distill.data.sources.folders import ImageFolder, UnlabelledImages
from distill.data.sources.formats import SourceName, source_name
from distill.data.sources.image_index import ImageIndex
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.opening import open_source
from distill.data.sources.records import TfdsSource
from distill.data.sources.subset import Subset

__all__ = [
    "CorruptImage",
    "Digits",
    "ImageFolder",
    "ImageIndex",
    "IndexedImages",
    "Source",
    "SourceName",
    "Subset",
    "TfdsSource",
    "UnlabelledImages",
    "abbreviate",
    "attributes_of",
    "captions_of",
    "decode",
    "open_source",
    "source_name",
]
