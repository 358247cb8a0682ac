"""Losses of images and texts against float64 NumPy formulas, whole and in blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import run_script

from distill.losses import (
    Similarities,
    found_in_batch,
    number_texts,
    sigmoid_loss,
    sigmoid_matching,
    softmax_loss,
    softmax_matching,
)

COUNT, WIDTH = 12, 5
SAME = np.array([3, 0, 3, 1, 0, 2, 3, 4, 5, 6, 7, 2], np.int32)
BLOCKS = (None, 4)


def embeddings(seed, width=WIDTH, scale=10.0, bias=-2.5):
    rng = np.random.default_rng(seed)
    images, texts = rng.standard_normal((2, COUNT, width))
    # An image is near its text, as it is when something has been learned.
    texts += images
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    return Similarities(*unit, np.float64(scale), np.float64(bias))


def float32(similarities):
    return jax.tree.map(np.float32, similarities)


def logits_of(similarities):
    images, texts, scale, bias = jax.tree.map(np.float64, similarities)
    return images @ texts.T * scale + bias


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def belonging(same):
    return np.eye(COUNT) if same is None else (same[:, None] == same[None]).astype(float)


def both_ways(logits, rows, columns):
    """Of targets [N, N] whose rows sum to 1, and others whose columns do."""
    return -0.5 * np.mean(
        np.sum(rows * log_softmax(logits), axis=1)
        + np.sum(columns.T * log_softmax(logits.T), axis=1)
    )


def reference_softmax(logits, same):
    own = belonging(same)
    return both_ways(logits, own / own.sum(1, keepdims=True), own / own.sum(0))


def reference_sigmoid(logits, same):
    signs = 2 * belonging(same) - 1
    return np.sum(np.logaddexp(0, -signs * logits)) / COUNT


def reference_softmax_matching(teacher, student):
    return both_ways(student, np.exp(log_softmax(teacher)), np.exp(log_softmax(teacher.T)).T)


def reference_sigmoid_matching(teacher, student):
    sure = 1 / (1 + np.exp(-teacher))
    losses = sure * np.logaddexp(0, -student) + (1 - sure) * np.logaddexp(0, student)
    return losses.sum() / COUNT


LABELLED = [(softmax_loss, reference_softmax), (sigmoid_loss, reference_sigmoid)]
MATCHED = [
    (softmax_matching, reference_softmax_matching),
    (sigmoid_matching, reference_sigmoid_matching),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("same", [None, SAME], ids=["different", "some equal"])
@pytest.mark.parametrize(("loss", "reference"), LABELLED)
@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (100.0, 0.0)])
def test_losses_of_pairs_are_the_formulas(loss, reference, same, block, scale, bias):
    given = float32(embeddings(0, scale=scale, bias=bias))
    found = jax.jit(functools.partial(loss, block=block))(given, same)
    assert found.shape == () and found.dtype == jnp.float32
    np.testing.assert_allclose(found, reference(logits_of(given), same), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("loss", "reference"), MATCHED)
def test_losses_of_students_are_the_formulas(loss, reference, block):
    """The teacher is wider, surer and has another bias."""
    teacher = float32(embeddings(1, width=9, scale=30.0, bias=-4.0))
    student = float32(embeddings(2))
    found = jax.jit(functools.partial(loss, block=block))(teacher, student)
    assert found.shape == () and found.dtype == jnp.float32
    expected = reference(logits_of(teacher), logits_of(student))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def value_and_gradient(loss, given):
    """In float64."""
    with jax.enable_x64():
        return jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(loss))(given))


def check_blocks(loss, given, reference):
    """Of the whole, the gradient is that of the reference along a line."""
    value, gradient = value_and_gradient(loss, given)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, reference(given), rtol=1e-12)
    rng = np.random.default_rng(5)
    step = jax.tree.map(lambda x: 1e-5 * rng.standard_normal(np.shape(x)), given)
    ahead = reference(jax.tree.map(np.add, given, step))
    behind = reference(jax.tree.map(np.subtract, given, step))
    slope = sum(np.sum(g * dx) for g, dx in zip(gradient, step, strict=True))
    np.testing.assert_allclose(slope, (ahead - behind) / 2, rtol=1e-6)
    for block in (1, 4):
        other, of_blocks = value_and_gradient(functools.partial(loss, block=block), given)
        np.testing.assert_allclose(other, value, rtol=1e-12)
        for ours, theirs in zip(of_blocks, gradient, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("same", [None, SAME], ids=["different", "some equal"])
@pytest.mark.parametrize(("loss", "reference"), LABELLED)
def test_blocks_change_neither_value_nor_gradient(loss, reference, same):
    check_blocks(
        functools.partial(loss, same=same),
        embeddings(0),
        lambda given: reference(logits_of(given), same),
    )


@pytest.mark.parametrize(("loss", "reference"), MATCHED)
def test_blocks_change_neither_value_nor_gradient_of_a_student(loss, reference):
    teacher = embeddings(1, width=9, scale=30.0)
    check_blocks(
        functools.partial(loss, teacher),
        embeddings(2),
        lambda given: reference(logits_of(teacher), logits_of(given)),
    )


@pytest.mark.parametrize(("loss", "_"), MATCHED)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(loss, _):
    teacher = embeddings(1)
    matching = functools.partial(loss, teacher, block=4)
    for leaf in value_and_gradient(matching, teacher)[1]:
        np.testing.assert_allclose(leaf, 0, atol=1e-12)
    _, gradient = value_and_gradient(matching, embeddings(2))
    assert all(np.abs(leaf).max() > 1e-3 for leaf in gradient[:3])


@pytest.mark.parametrize(("loss", "_"), MATCHED)
def test_no_gradient_reaches_a_teacher(loss, _):
    gradient = jax.jit(jax.grad(loss))(float32(embeddings(1)), float32(embeddings(2)))
    assert not any(np.any(leaf) for leaf in gradient)


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize(("loss", "_"), LABELLED)
def test_what_is_learned_perfectly_costs_nothing_and_has_a_finite_gradient(loss, _, block):
    """At a scale at which exponentials of other pairs are less than float32's smallest number."""
    one = np.eye(COUNT, dtype=np.float32)
    given = Similarities(one, one, np.float32(1000), np.float32(-500))
    step = jax.jit(jax.value_and_grad(functools.partial(loss, block=block)))
    value, gradient = step(given)
    assert value == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in gradient)
    value, gradient = step(given._replace(texts=-one))
    assert np.isfinite(value) and value > 100
    assert all(np.all(np.isfinite(leaf)) for leaf in gradient)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("same", [None, SAME], ids=["different", "some equal"])
def test_what_is_found_in_a_batch_is_counted(same, block):
    given = float32(embeddings(12, width=3))
    logits, own = logits_of(given), belonging(same)
    everyone = np.arange(COUNT)
    expected = [
        own[everyone, logits.argmax(1)].mean(),
        own[logits.argmax(0), everyone].mean(),
    ]
    assert min(expected) > 0 and max(expected) < 1 and expected[0] != expected[1]
    found = jax.jit(functools.partial(found_in_batch, block=block))(given, same)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40, 4), (1, 3), (6, 1)])
def test_texts_are_numbered_in_the_order_of_their_ids(shape):
    ids = np.random.default_rng(0).integers(0, 2, shape).astype(np.int32)
    _, expected = np.unique(ids, axis=0, return_inverse=True)
    found = jax.jit(number_texts)(ids)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_is_refused():
    given = embeddings(0)
    with pytest.raises(ValueError, match="block is 5, which does not divide a batch of 12 texts"):
        softmax_loss(given, block=5)
    with pytest.raises(ValueError, match="block is 0"):
        found_in_batch(given, block=0)
    for loss in (softmax_loss, sigmoid_loss):
        with pytest.raises(ValueError, match=r"shape \(12, 5\) and texts \(11, 5\)"):
            loss(given._replace(texts=given.texts[:11]))
    fewer = given._replace(images=given.images[:6], texts=given.texts[:6])
    for loss in (softmax_matching, sigmoid_matching):
        with pytest.raises(ValueError, match="of 12 images and the student's of 6"):
            loss(given, fewer)


def taken(loss, count, block):
    """Bytes beside arguments and results, of value and gradient."""

    def value(images, texts, scale, bias):
        return loss(Similarities(images, texts, scale, bias), block=block)

    both, one = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((count, 1152), ()))
    step = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3)))
    return step.lower(both, both, one, one).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("loss", "_"), LABELLED)
def test_memory_is_bounded_by_images_times_block(loss, _):
    """Twelve arrays of that size and two of embeddings, of a batch that takes 4 GiB for each array
    of all pairs."""
    count, block = 32768, 1024
    assert taken(loss, count, block) < 4 * (12 * count * block + 2 * count * 1152)
    assert taken(loss, count, None) > 4 * count * count


EIGHT_DEVICES = """
import contextlib, json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from distill.losses import *
from distill.parallel import (
    DEFAULT_RULES, MeshConfig, batch_sharding, make_mesh, replicated, sharding_context)

rng = np.random.default_rng(0)
count = 32
def make(width):
    rows = rng.standard_normal((2, count, width)).astype("float32")
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return Similarities(*rows, np.float32(10), np.float32(-2.5))
ours, theirs = make(6), make(9)
ids = rng.integers(0, 3, (count, 2)).astype("int32")

def everything(ours, theirs, ids, block):
    same = number_texts(ids)
    def losses(ours):
        return (
            softmax_loss(ours, same, block=block),
            sigmoid_loss(ours, same, block=block),
            softmax_matching(theirs, ours, block=block),
            sigmoid_matching(theirs, ours, block=block),
        )
    values, pull = jax.vjp(losses, ours)
    found = found_in_batch(ours, same, block=block)
    return values, pull((1.0, 2.0, 3.0, 4.0)), found, same

fast = {"xla_backend_optimization_level": 0}
def run(mesh, block, inside):
    def placed(tree):
        return jax.tree.map(
            lambda x: jax.device_put(x, batch_sharding(mesh) if x.ndim else replicated(mesh)), tree)
    def traced(*arguments):
        with sharding_context(mesh, DEFAULT_RULES) if inside else contextlib.nullcontext():
            return everything(*arguments, block)
    values = jax.jit(traced, compiler_options=fast)(*map(placed, (ours, theirs, ids)))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(values)]

wanted = run(make_mesh(MeshConfig(), jax.devices()[:1]), None, False)
facts = {}
for name, sizes, block, inside in (
    ("whole", dict(data=2, fsdp=2, tensor=2), None, True),
    ("blocks", dict(data=2, fsdp=2, tensor=2), 8, True),
    ("no mesh in context", dict(data=8), 8, False),
):
    found = run(make_mesh(MeshConfig(**sizes)), block, inside)
    error = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, wanted))
    facts[name] = float(error)
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_eight_devices_compute_what_one_does():
    facts = run_script(EIGHT_DEVICES)
    assert max(facts.values()) < 2e-5, facts
