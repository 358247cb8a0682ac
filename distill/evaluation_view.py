"""What of an image a model is shown when it is evaluated and used, as it is said of the model."""

import dataclasses
from typing import Annotated, Literal, Self, TypedDict

from distill.bounds import Between, CropShare, check_fields

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Of resizing, by Pillow's names; antialiased where an image shrinks, but for "nearest"."""
Resize = Literal["shortest", "squash"]
"""Whether an image keeps its ratio of width to height, its shorter side made as long as is asked
for, or both sides are."""
Crop = Literal["square875", "aspect75", "resize_small"]
"""By big_vision's names: the central 87.5 % of each side of an image squashed to a square, the
central 75 % of its shorter side, or the central 87.5 % of its shorter side."""


class _Share(TypedDict):
    crop: float
    resize: Resize


_SHARES: dict[Crop, _Share] = {
    "square875": {"crop": 0.875, "resize": "squash"},
    "aspect75": {"crop": 0.75, "resize": "shortest"},
    "resize_small": {"crop": 0.875, "resize": "shortest"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """The central part of a resized image, at a model's resolution.

    With its resolution, mean and standard deviation (`distill.nn.ViTConfig`) it is all that is done
    to an image before a model sees it.

    Raises:
      ValueError: for a choice that is unknown or out of bounds.
    """

    crop: CropShare = 0.875
    """Side of the part that is cut out over that of the resized image's shorter side."""
    resize: Resize = "shortest"
    filter: Filter = "bilinear"
    unseen: Annotated[int, Between(0, 2**14)] = 0
    """Rows at the bottom and columns at the right of that part, in pixels, that no patch of the
    model reaches: they are left out."""
    rounding: Literal["down", "even"] = "down"
    """Of where that part begins, where that is half a pixel: transformers rounds down, torchvision
    and timm to an even number."""

    def __post_init__(self):
        check_fields(self)

    def cropped(self, crop: Crop) -> Self:
        """The same but for what is cut out: a crop by its name.

        big_vision rounds the longer side of the resized image and resizes by area or bilinearly
        without antialiasing; here that side is rounded down and the filter stays the model's.
        """
        return dataclasses.replace(self, **_SHARES[crop])

    def described(self, size: int) -> str:
        """Such as "the central 224×224 pixels of the image with its shorter side made 256"."""
        cut = size + self.unseen
        side = self.resized(1, 1, cut)[0]
        squashed = f"the image squashed to {side}×{side}"
        if self.resize == "squash" and side == cut:
            found = squashed
        elif self.resize == "squash":
            found = f"the central {cut}×{cut} pixels of {squashed}"
        else:
            found = f"the central {cut}×{cut} pixels of the image with its shorter side made {side}"
        unseen = f", but for {self.unseen} at the right and the bottom" if self.unseen else ""
        return f"{found}, {self.filter}{unseen}"

    def begins(self, side: int, size: int) -> int:
        """Where, on a side of the resized image, the `size` pixels that are cut begin."""
        start = (side - size) / 2
        return round(start) if self.rounding == "even" else int(start)

    def resized(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Height and width of the resized image from which `size` pixels are cut."""
        # A share that is a ratio of two whole numbers may come out a last bit too small.
        side = int(size / self.crop + 1e-6)
        if self.resize == "squash":
            return side, side
        shorter = min(height, width)
        return side * height // shorter, side * width // shorter
