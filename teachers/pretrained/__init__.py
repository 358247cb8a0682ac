"""Teachers from published weights: .npz of big_vision and vision_transformer, .safetensors.

The tables of `distill.names` say which tensor is which parameter; `match` checks a file against it.
"""

from teachers.pretrained.load import FAMILIES, Published, open_published

__all__ = ["FAMILIES", "Published", "open_published"]
