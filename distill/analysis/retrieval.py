"""Recall of images by their captions and of captions by their images."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from distill.errors import UserError

AT = (1, 5, 10)
"""Of how many that are most similar one has to be right."""

# Similarities that are in memory at once, as float64.
_BLOCK = 1 << 24


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """How often the right one is among the most similar ones."""

    text_to_image: dict[int, int]
    """Captions whose image is among the k images most similar to them, by k."""
    image_to_text: dict[int, int]
    """Images one of whose captions is among the k captions most similar to them, by k."""
    texts: int
    images: int

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many of how many, by name, such as `text_to_image@1`."""
        ways = {
            "text_to_image": (self.text_to_image, self.texts),
            "image_to_text": (self.image_to_text, self.images),
        }
        return {f"{way}@{k}": (n, of) for way, (hits, of) in ways.items() for k, n in hits.items()}


def retrieval(
    images: np.ndarray, texts: np.ndarray, image_of: np.ndarray, at: Sequence[int] = AT
) -> Retrieval:
    """Compares each image with each caption, and counts those that are found.

    Of two that are equally similar, the one that stands first goes first. Similarities are
    computed in float64 and rounded to float32, so that what is equal is equal in each block.

    Args:
      images: embeddings of length 1, [N, E].
      texts: likewise, of captions, [M, E].
      image_of: the number of each caption's image, int [M]; any number of captions an image.
      at: the k.

    Raises:
      UserError: if an image has no caption, or there is none.
    """
    images, texts = (np.asarray(one, np.float64) for one in (images, texts))
    if not len(texts):
        raise UserError("there are no captions to retrieve images by")
    if (lacking := np.bincount(image_of, minlength=len(images)) == 0).any():
        raise UserError(f"image {np.argmax(lacking)} has no caption to be retrieved by")
    by_image = np.argsort(image_of, kind="stable")
    bounds = np.searchsorted(image_of[by_image], np.arange(len(images) + 1))
    of_texts = [_rank(row, image_of[number : number + 1]) for number, row in _rows(texts, images)]
    of_images = [
        _rank(row, by_image[bounds[number] : bounds[number + 1]])
        for number, row in _rows(images, texts)
    ]
    found = ({k: int(np.sum(np.array(ranks) < k)) for k in at} for ranks in (of_texts, of_images))
    return Retrieval(*found, texts=len(texts), images=len(images))


def _rows(ours: np.ndarray, theirs: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Of each of ours, its similarities with all of theirs, [N] float32, block by block."""
    block = max(1, _BLOCK // len(theirs))
    for start in range(0, len(ours), block):
        for number, row in enumerate((ours[start : start + block] @ theirs.T).astype(np.float32)):
            yield start + number, row


def _rank(similarities: np.ndarray, right: np.ndarray) -> int:
    """How many go before the first that is right.

    Args:
      similarities: [N].
      right: places of those that are right, ascending.
    """
    own = similarities[right]
    first = right[np.argmax(own)]
    best = similarities[first]
    return int(np.sum(similarities > best) + np.sum(similarities[:first] == best))
