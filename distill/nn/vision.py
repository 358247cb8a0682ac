"""A network that is shown images."""

import dataclasses
from typing import Any, Self

import jax

from distill.nn.kernels import Kernel
from distill.nn.network import Network, Params
from distill.nn.preprocess import prepare_images
from distill.nn.vit import LayerTokens, ViTOutput
from distill.parallel import constrain


@dataclasses.dataclass(frozen=True)
class VisionNetwork(Network):
    """A vision transformer, or another module of prepared images.

    Its config has `image_shape`, `mean` and `std` as `ViTConfig` has them.
    """

    def prepare(self, images: jax.Array) -> jax.Array:
        """Views [B, any height, any width, C] in [0, 255] as the model takes them."""
        with self._sharding_context():
            config = self.config
            prepared = prepare_images(images, config.image_shape[:2], config.mean, config.std)
            return constrain(prepared, "batch", None, None, None)

    def normalise(self, images: jax.Array) -> jax.Array:
        """Images [B, height, width, C] in [0, 255], normalised as `prepare` does, at their size."""
        with self._sharding_context():
            config, (height, width) = self.config, images.shape[1:3]
            normalised = prepare_images(images, (height, width), config.mean, config.std)
            return constrain(normalised, "batch", None, None, None)

    def with_layers(
        self, params: Params, images: jax.Array, layers: tuple[int, ...], *, normed: bool = True
    ) -> tuple[ViTOutput, LayerTokens]:
        """What `apply` returns, and the tokens after some layers, computed at once.

        Args:
          params: of the network.
          images: prepared, or of another size and normalised.
          layers: numbers from 1 to the depth of `tower`; see `VisionTransformer.with_layers`.
          normed: whether they go through the encoder's final norm.

        Raises:
          ValueError: for layers that there are not, or twice.
        """

        def of(module: Any, images: jax.Array) -> tuple[ViTOutput, LayerTokens]:
            return module.with_layers(images, layers, normed=normed)

        return self.apply(params, images, method=of)

    def largest_attention_logits(self, params: Params, images: jax.Array) -> jax.Array:
        """The largest |q·k|/√K in each layer of the encoder, float32 [B, depth].

        Args:
          params: of the network.
          images: prepared, as `apply` takes them.
        """

        def of(module: Any, images: jax.Array) -> jax.Array:
            return module.largest_attention_logits(images)

        return self.apply(params, images, method=of)

    def abstract_inputs(self, batch_size: int) -> tuple[Any, ...]:
        """Prepared images, [B, height, width, C] float32."""
        return (jax.ShapeDtypeStruct((batch_size, *self.config.image_shape), "float32"),)

    @property
    def encoders(self) -> dict[str, Any]:
        """That of `tower`; see `Network.encoders`."""
        return {key: self.tower for key in super().encoders}

    @property
    def tower(self) -> Any:
        """The configuration of the transformer that sees the images; of most, all there is."""
        return self.config

    def with_tower(self, **choices: Any) -> Self:
        """The same network, with other choices in `tower`."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **choices))

    def with_attention(self, kernel: Kernel) -> Self:
        """The same network, its encoder's attention computed by `kernel`."""
        return self.with_tower(attention=kernel)
