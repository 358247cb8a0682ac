"""Models of images, as they are exported."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from distill.evaluation_view import EvaluationView
from distill.export.model import Exportable, Input
from distill.nn import Params, VisionNetwork

Activation = Literal["softmax", "sigmoid"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageExportable(Exportable):
    """A trained network of images.

    Raises:
      ValueError: for an unknown choice.
    """

    kind = "image"
    network: VisionNetwork
    class_names: Sequence[str] = ()
    activation: Activation = "softmax"
    """From logits to probabilities."""
    view: EvaluationView = EvaluationView()
    """What of an image it is to be shown."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images it takes."""
        return self.network.config.image_shape

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Images at the model's resolution."""
        return {"images": Input("uint8", self.image_shape)}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """As `image_preprocessing` has it."""
        return image_preprocessing(self.network, self.view)

    def function(self, **execution: Any) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
        """`serving_function` of the network in the export's dtype."""
        network = self.network.with_tower(dtype=self.dtype, **execution)
        return serving_function(network, self.activation)


def image_preprocessing(network: VisionNetwork, view: EvaluationView) -> dict[str, Any]:
    """What is done to an image before a network sees it, as JSON can hold it.

    The images' `mode` and `filter` as Pillow calls them, `resize`, `crop`, `unseen` and `rounding`
    as `EvaluationView` has them, `height` and `width` of what is cut out and, for values in [0, 1],
    `mean` and `std`.
    """
    height, width, channels = network.config.image_shape
    return {
        "mode": "L" if channels == 1 else "RGB",
        "resize": view.resize,
        "filter": view.filter,
        "crop": view.crop,
        "unseen": view.unseen,
        "rounding": view.rounding,
        "height": height,
        "width": width,
        "mean": list(network.config.mean),
        "std": list(network.config.std),
    }


def serving_function(
    network: VisionNetwork, activation: Activation
) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
    """Maps (params, uint8 images [B, H, W, C]) to logits, probabilities and embedding, float32.

    A network without classifier has the embedding alone.
    """
    # One program serves every platform, whatever this machine has.
    network = dataclasses.replace(network.with_attention("plain"), placement=None)
    return answering(network, activation)


def answering(
    network: VisionNetwork, activation: Activation
) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
    """What a network says of images, uint8 [B, H, W, C], in float32.

    Args:
      network: as it is to compute.
      activation: by which logits become probabilities.

    Returns:
      from parameters and images to `embedding` [B, D] and, of a network with a classifier,
      `logits` and `probabilities`, both [B, classes].
    """
    probabilities = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[activation]

    def answer(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        outputs = network.apply(params, network.prepare(images))
        answers = {"embedding": outputs.embedding.astype(jnp.float32)}
        if network.config.num_classes:
            logits = outputs.logits.astype(jnp.float32)
            answers |= {"logits": logits, "probabilities": probabilities(logits)}
        return answers

    return answer
