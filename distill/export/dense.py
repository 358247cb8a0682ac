"""Heads for segmentation and depth with the model that they are on, as they are exported."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from distill.evaluation_view import Filter
from distill.export.dense_windows import seen_at_one_size, seen_whole
from distill.export.model import Exportable, Input
from distill.nn import Params
from distill.nn.dense import HeadedNetwork


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseExportable(Exportable):
    """A head with its tower: images of any size to the class or the depth of each pixel.

    Raises:
      ValueError: for an unknown choice, or whole images in place of windows.
    """

    kind = "dense"
    network: HeadedNetwork
    class_names: Sequence[str] | None = None
    filter: Filter = "bilinear"
    """By which images are resized before, where the head's view says that they are."""
    size: tuple[int, int] | None = None
    """Height and width of all images; None takes any. What it takes where a format needs one."""
    any_size: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.network.config.view.seen != "windows":
            raise ValueError(
                "the head sees whole images, and what is exported sees them through windows; make "
                "one with head.tokens.seen=windows"
            )
        if self.size is not None and min(self.size) < self.side:
            raise ValueError(
                f"images of {self.size[0]}×{self.size[1]} pixels are smaller than a window, of "
                f"{self.side}; give a larger --size"
            )

    @property
    def side(self) -> int:
        """Of the windows, in pixels."""
        return self.network.config.image_shape[0]

    @property
    def stride(self) -> int:
        """From one window to the next, in pixels."""
        return self.network.config.view.step(self.side, self.network.tower.patch_size)

    @property
    def free_side(self) -> int:
        """The smallest that is not enlarged."""
        return self.side

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Images, of any size unless they are of one."""
        sides = (None, None) if self.any_size else self.fixed_size
        return {"images": Input("uint8", (*sides, self.network.config.channels))}

    @property
    def fixed_size(self) -> tuple[int, int]:
        """What a format takes that needs a size: a window's, unless another is given."""
        return self.size or (self.side, self.side)

    def at_one_size(self) -> "DenseExportable":
        """The same, of images of one size alone."""
        return dataclasses.replace(self, any_size=False)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What is done to an image before, as JSON can hold it.

        Its `mode` as Pillow calls it; `short_side`, if the shorter side is to have so many pixels,
        by `filter`; `window` and `stride` in pixels; for values in [0, 1], `mean` and `std`.
        """
        config = self.network.config
        return {
            "mode": "L" if config.channels == 1 else "RGB",
            "short_side": config.view.short_side,
            "filter": self.filter,
            "window": self.side,
            "stride": self.stride,
            "mean": list(config.mean),
            "std": list(config.std),
        }

    def function(self, **execution: Any) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
        """Maps (params, images uint8 [B, height, width, C]) to what is said of each pixel.

        Of classes `mask`, int32 [B, height, width], and `scores`, float32 [B, height, width, K]; of
        depths `depth`, float32 [B, height, width].
        """
        patches, scale = self.patches(**execution), self.network.config.depth
        over = seen_whole if self.any_size else seen_at_one_size

        def serve(params: Params, images: jax.Array) -> dict[str, jax.Array]:
            def of(windows: jax.Array) -> jax.Array:
                return patches(params, windows)

            found = over(images.astype(jnp.float32), of, self.side, self.stride)
            if scale is not None:
                return {"depth": found[..., 0]}
            return {"mask": jnp.argmax(found, axis=-1).astype(jnp.int32), "scores": found}

        return serve

    def patches(self, **execution: Any) -> Callable[[Params, jax.Array], jax.Array]:
        """What is averaged over windows: scores, or depths.

        Maps (params, windows [B, side, side, C] in [0, 255]) to float32 [B, rows, columns, K].
        """
        # One program serves every platform, whatever this machine has.
        network = dataclasses.replace(
            self.network.with_tower(dtype=self.dtype, attention="plain", **execution),
            placement=None,
        )
        scale = network.config.depth

        def of(params: Params, windows: jax.Array) -> jax.Array:
            scores = network.apply(params, network.normalise(windows))
            return scores if scale is None else scale(scores)

        return of

    def tolerance(self, output: str) -> float:
        """Depths are rounded as they are large."""
        scale = self.network.config.depth
        return super().tolerance(output) * (1 if scale is None else max(1.0, scale.limits[1]))
