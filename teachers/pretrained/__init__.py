"""Teachers from published weights: .npz of big_vision and vision_transformer, .safetensors.

One table per family says which tensor is which parameter; `load` checks a file against it.
"""

from teachers.pretrained.load import FAMILIES, Published, open_published

__all__ = ["FAMILIES", "Published", "open_published"]
