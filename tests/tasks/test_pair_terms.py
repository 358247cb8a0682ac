"""Terms of a student's loss in which texts take part, beside formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.config import resolve
from distill.errors import UserError
from distill.nn import Pair, PairNetwork, TextConfig
from distill.subject import Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching, projected
from students import vit

BATCH, VOCAB, WORDS = 6, 16, 3
WEIGHTS = {
    "embedding_cosine": 0.5,
    "texts_cosine": 0.25,
    "similarities_softmax": 1.0,
    "similarities_sigmoid": 0.125,
    "captions_softmax": 2.0,
    "captions_sigmoid": 0.0625,
}


def pair(width, **choices):
    shape = dict(image_size=8, width=width, heads=2, depth=1, mlp_dim=24, num_classes=0, head="gap")
    text = TextConfig(
        vocab=VOCAB, length=WORDS, width=width, heads=2, depth=1, mlp_dim=24, embed_dim=12
    )
    return PairNetwork.of(vit.build(vit.configure("mu/4", **shape)), text, embed_dim=12, **choices)


def drawn(network, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), jnp.float32),
        network.abstract_params,
    )


STUDENT, TEACHER = pair(16, bias=True), pair(24, bias=True)
FROZEN = drawn(TEACHER, 2)


def batch():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, VOCAB, (BATCH, WORDS))
    # Two images have one text.
    ids[4] = ids[1]
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3)), jnp.uint8),
        "label": jnp.full(BATCH, -1, jnp.int32),
        "caption": jnp.asarray(ids, jnp.int32),
    }


def matching(weights, **choices):
    losses = {"kl": 0.0} | weights
    return resolve(MatchingConfig, {"losses": losses, "mixup": 0.0} | choices)


def found(config, student=STUDENT):
    task = FunctionMatching(student, {"teacher": Teacher(TEACHER)}, config)
    params = drawn(student, 1)
    prepared = task.prepare({"teacher": FROZEN}, batch(), jax.random.key(0))
    return task.loss(params, prepared), params


def of(network, params):
    """Embeddings of the batch in float64, and their similarities as they are compared."""
    images = network.prepare(batch()["image"])
    ours = np.float64(network.apply(params, images, method=Pair.embed_images))
    texts = np.float64(network.apply(params, batch()["caption"], method=Pair.embed_texts))
    scale = np.exp(np.float64(params["temperature"]))
    return ours, texts, scale * ours @ texts.T + np.float64(params["bias"])


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def both_ways(targets, columns, logits):
    rows = -(targets * log_softmax(logits)).sum(-1).mean()
    return (rows - (columns * log_softmax(logits.T)).sum(-1).mean()) / 2


def binary(targets, logits):
    return (np.logaddexp(0, logits) - targets * logits).sum(-1).mean()


@pytest.mark.parametrize("block", [None, 2])
def test_every_term_is_its_formula_of_both_pairs(block):
    (loss, metrics), params = found(matching(WEIGHTS, block=block))
    images, texts, logits = of(STUDENT, params)
    theirs, their_texts, their_logits = of(TEACHER, FROZEN)
    ids = np.asarray(batch()["caption"])
    same = (ids[:, None] == ids[None]).all(-1).astype(np.float64)
    wanted = {
        "embedding_cosine": (1 - (images * theirs).sum(-1)).mean(),
        "texts_cosine": (1 - (texts * their_texts).sum(-1)).mean(),
        "similarities_softmax": both_ways(
            np.exp(log_softmax(their_logits)), np.exp(log_softmax(their_logits.T)), logits
        ),
        "similarities_sigmoid": binary(1 / (1 + np.exp(-their_logits)), logits),
        "captions_softmax": both_ways(
            same / same.sum(-1, keepdims=True), same / same.sum(-1, keepdims=True), logits
        ),
        "captions_sigmoid": binary(same, logits),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    total = sum(WEIGHTS[name] * value for name, value in wanted.items())
    np.testing.assert_allclose(loss, total, rtol=1e-5)
    nearest = same[np.arange(BATCH), logits.argmax(1)].mean()
    np.testing.assert_allclose(metrics["image_to_text_accuracy"], nearest)


def test_equal_texts_count_as_wrong_where_that_is_asked():
    (_, metrics), params = found(matching(WEIGHTS, match_equal_texts=False))
    _, _, logits = of(STUDENT, params)
    own = np.eye(BATCH)
    np.testing.assert_allclose(metrics["captions_sigmoid"], binary(own, logits), rtol=1e-5)


def test_the_embedding_of_a_pair_is_not_projected_and_that_of_others_is():
    config, teachers = matching({"embedding_cosine": 1.0}), {"teacher": Teacher(TEACHER)}
    assert projected(STUDENT, teachers, config) is STUDENT
    alone = vit.build(vit.configure("mu/4", image_size=8, width=16, heads=2, num_classes=0))
    assert "projections" in projected(alone, teachers, config).abstract_params
    tokens = matching({"tokens_cosine": 1.0})
    assert "projections" in projected(STUDENT, teachers, tokens).abstract_params


def test_a_mixture_of_images_has_no_caption():
    with pytest.raises(UserError, match="set mixup=0 and cutmix=0"):
        matching({"captions_softmax": 1.0}, mixup=0.5)


def test_examples_without_captions_are_refused():
    task = FunctionMatching(STUDENT, {"teacher": Teacher(TEACHER)}, matching(WEIGHTS))
    without = {name: value for name, value in batch().items() if name != "caption"}
    with pytest.raises(UserError, match="no 'caption'"):
        task.prepare({"teacher": FROZEN}, without, jax.random.key(0))


def test_a_batch_whose_examples_are_compared_is_not_cut_up():
    teachers = {"teacher": Teacher(TEACHER)}
    for weights, alone in ((WEIGHTS, False), ({"embedding_cosine": 1.0}, True)):
        assert FunctionMatching(STUDENT, teachers, matching(weights)).mean_over_examples is alone
