"""How images of any size are shown to a model for what it says of their parts, not of the whole."""

import dataclasses
from typing import Literal

from distill.bounds import Depth, Side, check_fields
from distill.errors import check_each_once


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseView:
    """Windows of the model's own size, or whole images; and which of its tokens stand for them.

    Images keep their ratio of width to height. A model that was trained at one size loses much of
    what its tokens say at another, so windows are the default.

    Raises:
      ValueError: for values out of bounds.
    """

    seen: Literal["windows", "whole"] = "windows"
    """Whole images have positions interpolated to their grid of patches."""
    short_side: Side | None = None
    """Of images after they are resized, in pixels. None leaves them as they are, but for those
    that are smaller than a window, which are enlarged to its side."""
    stride: Side | None = None
    """From one window to the next, in pixels, where images are predicted; None takes two thirds of
    a window, as DINOv3 does, in whole patches. Those that are learnt from do not overlap."""
    layers: tuple[Depth, ...] = ()
    """Numbers from 1, whose tokens are joined; empty takes the last."""
    normed: bool = True
    """Whether they go through the encoder's final norm."""
    class_token: bool = False
    """Whether each patch also has the class token of the same layers."""

    def __post_init__(self):
        check_fields(self)
        check_each_once("layers", self.layers)
        if self.seen == "whole" and self.stride is not None:
            raise ValueError("stride is that of windows; leave it out where whole images are seen")

    def check(self, side: int, depth: int, has_class_token: bool) -> None:
        """Checks that a model can be shown images so.

        Args:
          side: of its images, in pixels.
          depth: of its encoder.
          has_class_token: whether it has one.

        Raises:
          ValueError: if it has no such layer or no class token, or windows do not cover images.
        """
        if wrong := [layer for layer in self.layers if layer > depth]:
            raise ValueError(f"the model has no layer {wrong[0]}; its layers are 1 to {depth}")
        if self.class_token and not has_class_token:
            raise ValueError("the model has no class token; set class_token=false")
        if self.stride is not None and self.stride > side:
            raise ValueError(
                f"a stride of {self.stride} pixels leaves some unseen by windows of {side}; "
                f"expected 1 to {side}"
            )
        if self.seen == "windows" and self.short_side is not None and self.short_side < side:
            raise ValueError(
                f"windows of {side} pixels do not fit into images whose shorter side is "
                f"{self.short_side}; expected at least {side}"
            )

    def resized(self, size: tuple[int, int], side: int, patch: int) -> tuple[int, int]:
        """Height and width that an image is resized to.

        Args:
          size: its height and width.
          side: of the model's images.
          patch: side of a patch.
        """
        short = min(size)
        target = self.short_side
        if target is None:
            target = short if self.seen == "whole" else max(short, side)
        height, width = (
            target if length == short else round(length * target / short) for length in size
        )
        if self.seen == "windows":
            return height, width
        return max(round(height / patch), 1) * patch, max(round(width / patch), 1) * patch

    def step(self, side: int, patch: int) -> int:
        """The stride of windows where images are predicted."""
        if self.stride is not None:
            return self.stride
        return max(side * 2 // 3 // patch, 1) * patch

    def described(self, side: int, patch: int, depth: int) -> str:
        """How images are shown, and what stands for their parts, for people.

        Args:
          side: of the model's images.
          patch: side of a patch.
          depth: of its encoder.
        """
        layers = ", ".join(map(str, self.layers or (depth,)))
        sized = "as they are"
        if self.short_side is not None:
            sized = f"whose shorter side is made {self.short_side} pixels"
        shown = (
            f"windows of {side}×{side} pixels, {self.step(side, patch)} apart, of images {sized}"
            if self.seen == "windows"
            else f"whole images {sized}"
        )
        of = f"tokens of layer{'s' * (len(self.layers) > 1)} {layers}"
        also = " with the class token" if self.class_token else ""
        return f"{shown}; {of}{', normed' if self.normed else ''}{also}"

    def remark(self, side: int) -> str | None:
        """What is to be said of it before it is used; None if nothing."""
        if self.seen == "windows":
            return None
        return (
            f"warning: whole images are seen, on other grids of patches than that of {side}×{side} "
            "pixels; what the model's tokens say may be lost (tokens.seen=windows keeps it)"
        )
