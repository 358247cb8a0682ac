"""Training a pair on images and their texts, both towers or one on a locked image tower."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from distill.bounds import BatchSize, check_fields
from distill.config import how_it_runs
from distill.losses import found_in_batch, number_texts, sigmoid_loss, softmax_loss
from distill.nn import LockedPairNetwork, Pair, PairNetwork, Params, VisionNetwork
from distill.tasks.pairs import captions_of, compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """SigLIP's loss (arXiv 2303.15343) or CLIP's (arXiv 2103.00020).

    Raises:
      ValueError: for a block that is not positive.
    """

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    match_equal_texts: bool = True
    """Texts of a batch that are equal belong to each other's images too, as captions made of
    class names do; without, they count as wrong."""
    block: BatchSize | None = how_it_runs(None)
    """Texts whose similarities to all images are in memory at once, a divisor of the batch; none is
    all, and more is, too. Each is 4 bytes, and there are several arrays of them."""

    def __post_init__(self):
        check_fields(self)


class Prepared(NamedTuple):
    """What the loss is computed from; no gradient flows through any of it."""

    images: jax.Array
    """What the network takes: images [B, height, width, C], or embeddings [B, D] float32."""
    ids: jax.Array
    """Of texts, [B, L]."""
    same: jax.Array | None
    """[B], equal where texts are; None takes all for different."""


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """An image and its text are to be more similar than either to others of the batch.

    Either the network has an image tower, which is trained with the rest unless
    `config.optimizer.freeze` says otherwise; or it is locked (LiT, arXiv 2111.07991), and its image
    embeddings come from a `tower` outside the gradient, or from the batch, where they are stored.
    Both ways of locking train the same text tower, to the last bit on a CPU.

    Raises:
      ValueError: for a locked network without image embeddings, or another with them.
    """

    needs_labels = False
    training_only = ()
    mean_over_examples = False

    network: PairNetwork
    config: ContrastiveConfig
    tower: VisionNetwork | None = None
    """The image tower of a locked network; its parameters are what is frozen."""
    stored: str | None = None
    """What the image embeddings of a locked network are called in a batch."""

    def __post_init__(self):
        locked = isinstance(self.network, LockedPairNetwork)
        given = [name for name in ("tower", "stored") if getattr(self, name) is not None]
        if len(given) != locked:
            has = "no image tower" if locked else "an image tower of its own"
            wants = "one of tower and stored" if locked else "neither tower nor stored"
            raise ValueError(f"the network has {has}; expected {wants}, not {given}")

    def prepare(
        self, frozen: Params | None, batch: dict[str, jax.Array], key: jax.Array
    ) -> Prepared:
        """Images as the network takes them, which of a locked tower are its embeddings.

        Args:
          frozen: the parameters of `tower`; None without one.
          batch: `caption` int32 [B, L], and `image` or the stored embeddings.
          key: nothing is drawn.

        Raises:
          UserError: if examples have no captions, or the block does not divide the batch.
        """
        del key
        ids = captions_of(batch, self.config.block, "config.loss.block")
        prepared = Prepared(
            self._images(frozen, batch),
            ids,
            number_texts(ids) if self.config.match_equal_texts else None,
        )
        # What comes after compiles to the same wherever the embeddings are from.
        return jax.lax.optimization_barrier(prepared)

    def loss(self, params: Params, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss; which share of images and texts find each other; scale and bias."""
        return self.network.apply(params, prepared, method=self._compare)

    def _images(self, frozen: Params | None, batch: dict[str, jax.Array]) -> jax.Array:
        if self.stored is not None:
            return batch[self.stored].astype(jnp.float32)
        if self.tower is None:
            return self.network.prepare(batch["image"])
        assert frozen is not None
        output = self.tower.apply(frozen, self.tower.prepare(batch["image"]))
        return output.embedding.astype(jnp.float32)

    def _compare(self, pair: Pair, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        similarities = compared(pair, pair.embed_images(prepared.images), prepared.ids)
        bias = {} if pair.bias is None else {"bias": pair.bias[...]}
        same, block = prepared.same, self.config.block
        loss = LOSSES[self.config.kind](similarities, same, block=block)
        texts, images = found_in_batch(similarities, same, block=block)
        accuracies = {"image_to_text_accuracy": texts, "text_to_image_accuracy": images}
        return loss, accuracies | {"scale": jnp.exp(pair.temperature[...])} | bias


LOSSES = {"sigmoid": sigmoid_loss, "softmax": softmax_loss}
