"""Pairs of towers, as they are exported."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from distill.data.tokens import Tokenizer
from distill.evaluation_view import EvaluationView
from distill.export.images import image_preprocessing
from distill.export.model import Exportable, Input
from distill.export.texts import check_length
from distill.nn import Pair, PairNetwork, Params

TEXTS = 2
"""With which each image is compared when an export is checked."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairExportable(Exportable):
    """A trained pair of towers and what makes tokens of texts for it.

    Raises:
      ValueError: for an unknown choice, or tokens of another length.
    """

    kind = "pair"
    network: PairNetwork
    tokenizer: Tokenizer
    view: EvaluationView = EvaluationView()
    """What of an image it is to be shown."""

    def __post_init__(self):
        super().__post_init__()
        check_length(self.tokenizer, self.network.config.text)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Images at the model's resolution, and texts for each of them."""
        config = self.network.config
        return {
            "images": Input("uint8", config.image_shape),
            "ids": Input("int32", (TEXTS, config.text.length)),
        }

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Of images, and as `texts` the rule by which those become ids: `Tokenizer.about`."""
        return image_preprocessing(self.network, self.view) | {"texts": self.tokenizer.about}

    def function(self, **execution: Any) -> Callable[..., dict[str, jax.Array]]:
        """Maps (params, images [B, H, W, C], ids [B, T, L]) to what they are compared by.

        Embeddings are of length 1: `image_embedding` [B, E], `text_embedding` [B, T, E]; `logits`
        [B, T] are each image's scaled cosines with its own texts, with the bias.
        """
        # One program serves every platform, whatever this machine has.
        network = dataclasses.replace(self.network.with_attention("plain"), placement=None)
        towers = {
            tower: dataclasses.replace(
                getattr(network.config, tower), dtype=self.dtype, **execution
            )
            for tower in ("image", "text")
        }
        network = dataclasses.replace(network, config=dataclasses.replace(network.config, **towers))

        def serve(params: Params, images: jax.Array, ids: jax.Array) -> dict[str, jax.Array]:
            ours = network.apply(params, network.prepare(images), method=Pair.embed_images)
            theirs = network.apply(params, ids.reshape(-1, ids.shape[-1]), method=Pair.embed_texts)
            theirs = theirs.reshape(*ids.shape[:-1], -1)
            cosines = jnp.einsum("be,bte->bt", ours, theirs, precision="highest")
            logits = cosines * jnp.exp(params["temperature"]) + params.get("bias", 0)
            return {"image_embedding": ours, "text_embedding": theirs, "logits": logits}

        return serve

    def tolerance(self, output: str) -> float:
        """Rounding of embeddings is multiplied by the scale."""
        scale = math.exp(self.params["temperature"]) if output == "logits" else 1.0
        return super().tolerance(output) * max(1.0, scale)
