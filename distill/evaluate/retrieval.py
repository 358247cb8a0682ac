"""The evaluation of kind `retrieval`: images found by their captions, and captions by images."""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from distill.analysis.retrieval import AT, Retrieval, retrieval
from distill.data import EvalLoader
from distill.data.captions import AllCaptions, all_captions
from distill.errors import RunFailed
from distill.evaluate.evaluation import describe_images
from distill.evaluate.features import split_loader
from distill.evaluate.of_images import OfImagesConfig, Shown
from distill.evaluate.outputs import Outputs
from distill.evaluate.pairs import pair_of
from distill.nn import Pair, PairNetwork, Params
from distill.nn.zero_shot import embedded_texts
from distill.subject import Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig(OfImagesConfig):
    """How often a pair finds an image by a caption of it, and a caption by its image.

    Images have captions, any number of them; see docs/data.md.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["retrieval"] = "retrieval"

    needs_teachers: ClassVar[bool] = False
    needs_pair: ClassVar[bool] = True

    def build(self, name: str, subject: Subject) -> "RetrievalEvaluation | None":
        """Metrics named `NAME/text_to_image@1`; None of a run that holds no split out."""
        if (shown := self.shown(name, subject)) is None:
            return None
        network, tokenizer = pair_of(subject)
        data = dataclasses.replace(shown.data, captions=tokenizer)
        channels = network.config.channels
        images = data.open_evaluation(shown.split, channels=channels, labelled=False)
        captions = all_captions(images)
        ids = tokenizer.within(network.config.text.vocab, captions.texts)
        loader = split_loader(
            images,
            data,
            subject.mesh,
            size=max(network.config.image_shape[:2]),
            batch_size=subject.batch_size,
            view=shown.view,
        )
        return RetrievalEvaluation(
            name,
            network,
            loader,
            captions,
            ids,
            shown,
            batch_size=subject.batch_size,
            tokens=tokenizer.fingerprint,
        )


class RetrievalEvaluation:
    """A pair's recall over images and all their captions.

    Args:
      name: prefix of the metrics.
      network: the pair, on a mesh.
      loader: goes over the images.
      captions: of the images.
      ids: their tokens.
      shown: the images, and how they are shown.
      batch_size: of texts.
      tokens: the tokenizer's fingerprint.
    """

    missing: frozenset[str] = frozenset()
    """Nothing can be left out."""

    def __init__(
        self,
        name: str,
        network: PairNetwork,
        loader: EvalLoader,
        captions: AllCaptions,
        ids: np.ndarray,
        shown: Shown,
        *,
        batch_size: int,
        tokens: str,
    ):
        self.remarks = (f"{loader.source.found}, {len(ids):,} captions",)
        self._batch_size = batch_size
        self._name, self._network, self._loader = name, network, loader
        self._captions, self._ids, self._shown, self._tokens = captions, ids, shown, tokens
        self._images = Outputs(network, Pair.embed_images)
        self._found: Retrieval | None = None

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Recall as `name/text_to_image@1` and so on; all processes get the same.

        Captions of images that cannot be decoded are left out.

        Raises:
          RunFailed: if an embedding is not finite, or too many images are corrupt.
        """
        del frozen
        rows = [*self._images(params, self._loader)]
        images = np.concatenate([one.values for one in rows])
        place = np.full(len(self._loader.source), -1)
        place[np.concatenate([one.index for one in rows])] = np.arange(len(images))
        image_of = place[self._captions.images]
        texts = np.concatenate(
            [*embedded_texts(self._network, params, self._ids, batch_size=self._batch_size)]
        )
        for what, found in (("images", images), ("captions", texts)):
            if not np.isfinite(found).all():
                raise RunFailed(f"embeddings of {what} are not finite; check the model")
        kept = image_of >= 0
        self._found = retrieval(images, texts[kept], image_of[kept])
        return {f"{self._name}/{k}": hits / of for k, (hits, of) in self._found.counts().items()}

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        ways = ("text_to_image", "image_to_text")
        return frozenset(f"{self._name}/{way}@{k}" for way in ways for k in AT)

    def seen(self) -> list[str]:
        """How many images and captions the last call has seen."""
        assert self._found is not None
        source = self._shown.data.evaluation_source
        return [f"{self._found.images:,} images and {self._found.texts:,} captions of {source}"]

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, the tokenizer, and how many of how many were found."""
        shown = self._shown
        counts = {} if self._found is None else self._found.counts()
        source = shown.data.evaluation_source
        return {
            "data": [describe_images(self._loader.source, source, shown.split)],
            "view": dataclasses.asdict(shown.view),
            "tokenizer": self._tokens,
            "details": {"counts": {name: list(share) for name, share in counts.items()}},
        }
