"""The evaluation of kind `extremes`: how large logits of attention and of the classifier become."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from distill.evaluate.evaluation import ImagesEvaluation
from distill.evaluate.images import open_images
from distill.evaluate.of_images import OfImagesConfig, measured
from distill.metrics import Largest, Mean, Metric
from distill.nn import VisionNetwork
from distill.subject import PerExample, Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtremesConfig(OfImagesConfig):
    """How large what enters a softmax is, on a split: what grows before a training diverges.

    Attention logits that grow without bound are what QK normalisation is for (ViT-22B, arXiv
    2302.05442, §2.1); log Z of the classifier is what a loss on it holds near zero (PaLM, arXiv
    2204.02311, §5). All attention logits of a layer are in memory at once.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["extremes"] = "extremes"

    needs_teachers: ClassVar[bool] = False

    def build(self, name: str, subject: Subject) -> ImagesEvaluation | None:
        """Metrics named `NAME/attention_logit`, `NAME/attention_logits/LAYER` and `NAME/log_z`.

        The largest absolute value over images, heads and pairs of tokens, of all layers and of
        each; and the mean of the log of the sum of the exponentials of the classifier's logits,
        where there are any. None of a run that holds no split out.
        """
        if (shown := self.shown(name, subject)) is None:
            return None
        images = open_images(subject, shown.data, shown.split)
        return measured(name, subject, shown, images, _extremes(subject.network))


@functools.lru_cache(maxsize=16)
def _extremes(network: VisionNetwork) -> PerExample:
    """The same object for equal networks, which is compiled once."""

    def per_example(params: Any, frozen: Any, batch: dict[str, Any]):
        del frozen
        mask, images = batch["mask"], network.prepare(batch["image"])
        logits = network.largest_attention_logits(params, images)
        layers = tuple(str(number + 1) for number in range(logits.shape[1]))
        found: dict[str, Metric] = {
            "attention_logit": Largest.of(jnp.max(logits, axis=1), mask),
            "attention_logits": Largest.of(logits, mask, layers),
        }
        if network.config.num_classes:
            log_z = jax.nn.logsumexp(network.apply(params, images).logits, axis=-1)
            found["log_z"] = Mean.of(log_z, mask)
        return found

    return per_example
