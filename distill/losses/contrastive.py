"""What images and texts of a batch are to each other: CLIP's loss, SigLIP's, and those of students.

Losses take embeddings, not similarities, so that these can be computed for some texts at a time and
again in the backward pass: with `block`, memory is some ten arrays of images × block in place of
images × texts. docs/image_text.md has figures.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from distill.losses.cross_entropy import sigmoid_cross_entropy, softmax_cross_entropy
from distill.parallel import constrain

# Of pairs that do not belong together, as a logit of targets: finite, so that a block in which
# nothing does has a softmax.
_NEVER = -1e30


class Similarities(NamedTuple):
    """Those of the N images of a batch and their N texts, not multiplied yet."""

    images: jax.Array
    """[N, E] float32, of length 1."""
    texts: jax.Array
    """[N, E] float32, of length 1; each is that of the image in its row."""
    scale: jax.Array | float
    """Of cosines, such as the exponential of a learned temperature."""
    bias: jax.Array | float = 0.0
    """What is added to scaled cosines."""

    def of(self, texts: jax.Array) -> jax.Array:
        """Similarities [N, n] of all images and the texts [n, E]."""
        # What a device rounds the factors to is worth a whole logit at a scale of 100.
        cosines = jnp.matmul(self.images, texts.T, precision="highest")
        return constrain(cosines * self.scale + self.bias, "batch", None)


def softmax_loss(
    similarities: Similarities, same: jax.Array | None = None, *, block: int | None = None
) -> jax.Array:
    """Each image is to find its text among the batch's, and each text its image (CLIP, §2.3).

    The mean of the softmax cross-entropies of rows and of columns (arXiv 2103.00020), a scalar.

    Args:
      similarities: of a batch; the bias makes no difference.
      same: [N] integers, equal where texts are, as `number_texts` gives them; targets are then
        spread evenly over equal texts. None takes all texts for different.
      block: texts whose similarities are in memory at once, a divisor of N; all if None or more.

    Raises:
      ValueError: if there are not as many texts as images, or the block does not divide them.
    """
    own = _numbers(similarities, same)

    def both_ways(texts, numbers):
        targets = jnp.where(own[:, None] == numbers, 0.0, _NEVER)
        return _both_ways(targets, similarities.of(texts))

    return _mean_of_both_ways(_over_texts(both_ways, block, similarities.texts, own))


def sigmoid_loss(
    similarities: Similarities, same: jax.Array | None = None, *, block: int | None = None
) -> jax.Array:
    """Every image and text belong together or do not: two classes (SigLIP, arXiv 2303.15343, §3.2).

    −Σ_j log σ(y_ij·s_ij), y 1 or −1, summed over texts and averaged over images, a scalar.

    Args:
      similarities: of a batch.
      same: [N] integers, equal where texts are: each belongs to the others' images, too. None takes
        all texts for different.
      block: texts whose similarities are in memory at once, a divisor of N; all if None or more.

    Raises:
      ValueError: if there are not as many texts as images, or the block does not divide them.
    """
    own = _numbers(similarities, same)

    def per_image(texts, numbers):
        targets = (own[:, None] == numbers).astype(similarities.images.dtype)
        return sigmoid_cross_entropy(similarities.of(texts), targets)

    return _mean_of_sums(_over_texts(per_image, block, similarities.texts, own))


def softmax_matching(
    teacher: Similarities, student: Similarities, *, block: int | None = None
) -> jax.Array:
    """`softmax_loss` with the teacher's softmax for targets, of rows and of columns, a scalar.

    ½·[CE(softmax T, S) + CE(softmax Tᵀ, Sᵀ)], each with its own scale (TinyCLIP, arXiv 2309.12314,
    §3.1): function matching, whose function is that of a batch. Embeddings may differ in width.

    Args:
      teacher: of the same images and texts; no gradient flows to it.
      student: to be matched.
      block: texts whose similarities are in memory at once, a divisor of N; all if None or more.

    Raises:
      ValueError: if there are not as many texts as images, or the block does not divide them.
    """
    teacher = _target(teacher, student)

    def both_ways(theirs, ours):
        return _both_ways(teacher.of(theirs), student.of(ours))

    return _mean_of_both_ways(_over_texts(both_ways, block, teacher.texts, student.texts))


def sigmoid_matching(
    teacher: Similarities, student: Similarities, *, block: int | None = None
) -> jax.Array:
    """`sigmoid_loss` with the teacher's probabilities for targets, a scalar.

    −Σ_j [ q·log σ(s) + (1 − q)·log σ(−s) ] with q = σ(t), summed over texts and averaged over
    images; smallest, at the entropy of q, where both agree.

    Args:
      teacher: of the same images and texts; no gradient flows to it.
      student: to be matched.
      block: texts whose similarities are in memory at once, a divisor of N; all if None or more.

    Raises:
      ValueError: if there are not as many texts as images, or the block does not divide them.
    """
    teacher = _target(teacher, student)

    def per_image(theirs, ours):
        return sigmoid_cross_entropy(student.of(ours), jax.nn.sigmoid(teacher.of(theirs)))

    return _mean_of_sums(_over_texts(per_image, block, teacher.texts, student.texts))


def found_in_batch(
    similarities: Similarities, same: jax.Array | None = None, *, block: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """The shares of images whose most similar text is theirs, and of texts whose image is.

    Args:
      similarities: of a batch; no gradient flows through them.
      same: [N] integers, equal where texts are, which then stand for each other.
      block: as of the losses.
    """
    similarities = jax.lax.stop_gradient(similarities)
    own = _numbers(similarities, same)

    def best(texts, numbers):
        logits = similarities.of(texts)
        right = own[jnp.argmax(logits, axis=0)] == numbers
        return numbers[jnp.argmax(logits, axis=1)], jnp.max(logits, axis=1), right

    texts, highest, right = _over_texts(best, block, similarities.texts, own)
    text = jnp.take_along_axis(texts, jnp.argmax(highest, axis=0)[None], axis=0)[0]
    return jnp.mean(text == own), jnp.mean(right)


def number_texts(ids: jax.Array) -> jax.Array:
    """For each text its number among the different ones, in the order of their ids, [N] int32.

    Args:
      ids: [N, L] integers.
    """

    def refine(numbers, tokens):
        """Tells texts apart by one more token."""
        order = jnp.lexsort((tokens, numbers))
        starts = (jnp.diff(numbers[order]) != 0) | (jnp.diff(tokens[order]) != 0)
        return numbers.at[order[1:]].set(jnp.cumsum(starts, dtype=jnp.int32)), None

    # A new text starts wherever anything changes; the first in order has the number 0 from before.
    numbers, _ = jax.lax.scan(refine, jnp.zeros(len(ids), jnp.int32), ids.T)
    return numbers


def _over_texts(function: Callable[..., Any], block: int | None, *texts: jax.Array) -> Any:
    """What `function` returns of each block of the texts' arrays [N, …], stacked.

    Its results alone are kept: the backward pass computes the rest again.
    """
    count = len(texts[0])
    if block is None or block >= count:
        return jax.tree.map(lambda x: x[None], function(*texts))
    if block < 1 or count % block:
        raise ValueError(f"block is {block}, which does not divide a batch of {count} texts evenly")
    # Every device goes over all texts, with its own images.
    whole = [constrain(x, *(None,) * x.ndim) for x in texts]
    blocks = [x.reshape(-1, block, *x.shape[1:]) for x in whole]
    return jax.lax.map(jax.checkpoint(lambda xs: function(*xs), prevent_cse=False), blocks)


def _numbers(similarities: Similarities, same: jax.Array | None) -> jax.Array:
    """[N], equal where texts are."""
    _check_pairs(similarities)
    return jnp.arange(len(similarities.texts), dtype=jnp.int32) if same is None else same


def _check_pairs(similarities: Similarities) -> None:
    images, texts = similarities.images.shape, similarities.texts.shape
    if images != texts:
        raise ValueError(f"images have shape {images} and texts {texts}; expected a text an image")


def _target(teacher: Similarities, student: Similarities) -> Similarities:
    """The teacher's, which no gradient reaches."""
    _check_pairs(teacher)
    _check_pairs(student)
    if len(teacher.images) != len(student.images):
        raise ValueError(
            f"the teacher's similarities are of {len(teacher.images)} images and the student's of "
            f"{len(student.images)}; expected the same batch"
        )
    return jax.lax.stop_gradient(teacher)


class _BothWays(NamedTuple):
    """Of one block of n texts."""

    images: jax.Array
    """[N], cross-entropies of images over the block's texts alone."""
    total: jax.Array
    """[N], the logarithm of the sum of each image's exponentials in the block."""
    target_total: jax.Array
    """[N], the same of the targets."""
    texts: jax.Array
    """[n], cross-entropies of the block's texts over all images."""


def _both_ways(targets: jax.Array, logits: jax.Array) -> _BothWays:
    """Cross-entropies of a block's logits [N, n] against the softmax of `targets`, alike."""
    return _BothWays(
        softmax_cross_entropy(logits, jax.nn.softmax(targets)),
        jax.nn.logsumexp(logits, axis=1),
        jax.nn.logsumexp(targets, axis=1),
        softmax_cross_entropy(logits.T, jax.nn.softmax(targets.T)),
    )


def _mean_of_both_ways(blocks: _BothWays) -> jax.Array:
    """Over images and over texts, of all blocks.

    An image's cross-entropy over all texts is that over blocks and the mean of those within them.
    """
    shares = jax.nn.softmax(blocks.target_total, axis=0)
    among = softmax_cross_entropy(blocks.total.T, shares.T)
    images = among + jnp.sum(shares * blocks.images, axis=0)
    return 0.5 * (jnp.mean(images) + jnp.mean(blocks.texts))


def _mean_of_sums(blocks: jax.Array) -> jax.Array:
    """Over images, of what they have summed over the texts of each block, [blocks, N]."""
    return jnp.mean(jnp.sum(blocks, axis=0))
