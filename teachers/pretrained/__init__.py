"""Published weights: .npz of big_vision and vision_transformer, .safetensors.

Models of images, text towers, and pairs of both. The tables of `distill.names` say which tensor is
which parameter; `match` checks a file against it.
"""

from teachers.pretrained.load import FAMILIES, Published, open_published
from teachers.pretrained.pair import PublishedPair, open_pair
from teachers.pretrained.text import PublishedText, open_text, towers

__all__ = [
    "FAMILIES",
    "Published",
    "PublishedPair",
    "PublishedText",
    "open_pair",
    "open_published",
    "open_text",
    "towers",
]
