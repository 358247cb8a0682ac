"""The evaluation of kind `zeroshot`: a pair that names the class of an image by its text."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from distill.data.prompts import PromptsConfig, described
from distill.evaluate.evaluation import ImagesEvaluation
from distill.evaluate.features import split_loader
from distill.evaluate.of_images import OfImagesConfig
from distill.evaluate.pairs import pair_of
from distill.metrics.classification import label_metrics
from distill.nn import Pair, PairNetwork, Params
from distill.nn.joint import similarities
from distill.nn.zero_shot import class_vectors
from distill.subject import Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotEvaluationConfig(PromptsConfig, OfImagesConfig):
    """How well a pair names the classes of images, of which it has seen none as such.

    Class vectors are computed anew, of the text tower as it is, each time. A classifier made of a
    published pair, which all other kinds take, is `WeightsConfig.zeroshot`.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["zeroshot"] = "zeroshot"

    needs_teachers: ClassVar[bool] = False
    needs_pair: ClassVar[bool] = True

    def build(self, name: str, subject: Subject) -> "ZeroShotEvaluation | None":
        """Metrics named `NAME/accuracy`; None of a run that holds no split out."""
        if (shown := self.shown(name, subject)) is None:
            return None
        network, tokenizer = pair_of(subject)
        # Their captions say nothing of classes.
        data = dataclasses.replace(shown.data, captions=None)
        images = data.open_evaluation(shown.split, channels=network.config.channels)
        texts = self.texts(self.names(images.class_names), tokenizer)
        tokens = self.tokens(texts, tokenizer, network.config.text.vocab)
        about = self.about(texts, tokenizer)
        batches = split_loader(
            images,
            data,
            subject.mesh,
            size=max(network.config.image_shape[:2]),
            batch_size=subject.batch_size,
            view=shown.view,
        )
        return ZeroShotEvaluation(
            name,
            batches,
            _against(network),
            vectors=lambda params: class_vectors(
                network, params, *tokens, batch_size=subject.batch_size
            ),
            shape=(len(texts), network.config.text.embedding_width),
            texts=about,
            images=images,
            source=data.evaluation_source,
            split=shown.split,
            view=shown.view,
            class_map=data.class_map,
            remarks=(described(about), images.found),
        )


class ZeroShotEvaluation(ImagesEvaluation):
    """A pair's metrics over images whose classes are texts.

    Args:
      name: prefix of the metrics.
      batches: goes over the images.
      per_example: measures a batch against class vectors, which it gets as `frozen`.
      vectors: computes them of the pair's parameters.
      shape: of them.
      texts: of what they are made, as JSON can hold it.
      **images: see `ImagesEvaluation`.
    """

    def __init__(
        self,
        name: str,
        batches: Any,
        per_example: Any,
        *,
        vectors: Callable[[Params], np.ndarray],
        shape: tuple[int, int],
        texts: dict[str, Any],
        **images: Any,
    ):
        super().__init__(name, batches, per_example, **images)
        self._vectors, self._shape, self._texts = vectors, shape, texts

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """The metrics as `name/metric`; all processes must call it, and all get the same."""
        del frozen
        return super().__call__(params, self._vectors(params))

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str] | None:
        """What a call may find; see `Evaluator.metrics`."""
        del frozen
        return super().metrics(params, jax.ShapeDtypeStruct(self._shape, np.float32))

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and the texts that stand for their classes."""
        return super().about() | {"zeroshot": self._texts}


def _against(network: PairNetwork):
    """Metrics of a batch against class vectors [classes, E]."""

    def per_example(params: Params, vectors: Any, batch: dict[str, Any]):
        images = network.prepare(batch["image"])
        found = network.apply(params, images, method=Pair.embed_images)
        logits = similarities(found, vectors, params["temperature"], params.get("bias"))
        return label_metrics(logits, batch["label"], where=batch["mask"])

    return per_example
