"""Where images come from: random-access collections of images, most of them labelled.

A source is named in a config by one string: `digits`, `folder:PATH`, `images:PATH` or `tfds:NAME`.
See docs/data.md.
"""

from distill.data.sources.base import CorruptImage, Source, abbreviate, attributes_of
from distill.data.sources.decoding import decode
from distill.data.sources.digits import Digits
from distill.data.sources.folders import ImageFolder, UnlabelledImages
from distill.data.sources.formats import SourceName, source_name
from distill.data.sources.opening import open_source
from distill.data.sources.records import TfdsSource
from distill.data.sources.subset import Subset

__all__ = [
    "CorruptImage",
    "Digits",
    "ImageFolder",
    "Source",
    "SourceName",
    "Subset",
    "TfdsSource",
    "UnlabelledImages",
    "abbreviate",
    "attributes_of",
    "decode",
    "open_source",
    "source_name",
]
