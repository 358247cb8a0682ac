"""How teachers' outputs are stored and read again."""

import jax.numpy as jnp
import numpy as np
import pytest

from distill.errors import RunFailed
from distill.tasks.matching.targets import (
    TargetFormat,
    check_storable,
    decode,
    encode,
    features_of,
    magnitudes,
)

CLASSES, BATCH = 7, 5


def logits(scale=3.0):
    return scale * np.random.default_rng(0).standard_normal((BATCH, CLASSES)).astype(np.float32)


def softmax(z):
    z = np.exp(z.astype(np.float64))
    return z / z.sum(-1, keepdims=True)


def test_float32_keeps_every_bit_of_every_output():
    answers = {
        "logits": {"a": jnp.asarray(logits()), "b": jnp.asarray(logits(1e-3))},
        "tokens": {"a": jnp.asarray(np.random.default_rng(1).random((BATCH, 4, 3)), jnp.float32)},
    }
    arrays = encode(answers, TargetFormat(dtype="float32"))
    assert features_of(arrays) == {"logits", "tokens"}
    found = decode(arrays, CLASSES)
    for feature, teachers in answers.items():
        for name, values in teachers.items():
            np.testing.assert_array_equal(found[feature][name], values)


def test_float16_rounds_as_numpy_does():
    arrays = encode({"logits": {"a": jnp.asarray(logits())}}, TargetFormat())
    np.testing.assert_array_equal(arrays["logits/a"], logits().astype(np.float16))
    assert decode(arrays, CLASSES)["logits"]["a"].dtype == jnp.float32


@pytest.mark.parametrize("k", [1, 3, CLASSES - 1])
def test_the_rest_shares_its_mass_evenly(k):
    form = TargetFormat(dtype="float32", top_k=k)
    arrays = encode({"logits": {"a": jnp.asarray(logits())}}, form)
    assert sum(values[0].size for values in arrays.values()) == 2 * k + 1
    found = softmax(np.asarray(decode(arrays, CLASSES)["logits"]["a"]))
    true = softmax(logits())
    for row, expected in zip(found, true, strict=True):
        top = np.argsort(-expected)[:k]
        np.testing.assert_allclose(row[top], expected[top], rtol=1e-5)
        others = np.delete(row, top)
        np.testing.assert_allclose(
            others, (1 - expected[top].sum()) / (CLASSES - k), rtol=1e-4, atol=1e-9
        )


def test_a_certain_teacher_leaves_the_rest_a_finite_logarithm():
    certain = np.zeros((1, CLASSES), np.float32)
    certain[0, 2] = 200.0
    form = TargetFormat(dtype="float16", top_k=1)
    found = np.asarray(
        decode(encode({"logits": {"a": jnp.asarray(certain)}}, form), CLASSES)["logits"]["a"]
    )
    assert np.isfinite(found).all() and found.argmax() == 2


def test_embeddings_are_kept_whole_whatever_is_kept_of_logits():
    embedding = jnp.asarray(logits())
    arrays = encode({"embedding": {"a": embedding}}, TargetFormat(dtype="float32", top_k=2))
    np.testing.assert_array_equal(decode(arrays, 100)["embedding"]["a"], embedding)


@pytest.mark.parametrize("k", [CLASSES, CLASSES + 1])
def test_as_many_classes_as_there_are_cannot_be_kept_apart(k):
    with pytest.raises(ValueError, match=f"top_k is {k}, of {CLASSES} classes"):
        encode({"logits": {"a": jnp.asarray(logits())}}, TargetFormat(top_k=k))


@pytest.mark.parametrize("bad", [dict(top_k=0), dict(dtype="float64")])
def test_impossible_formats_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TargetFormat(**bad)


def check(values, form):
    answers = {"embedding": {"a": jnp.asarray(values, jnp.float32)}}
    largest = {name: np.asarray(m) for name, m in magnitudes(answers, form).items()}
    check_storable(largest, form, "image {}".format)
    return encode(answers, form)["embedding/a"]


def test_what_the_dtype_cannot_hold_is_refused_with_how_large_it_is():
    values = np.ones((BATCH, 3), np.float32)
    values[3, 1] = -1.2e6
    with pytest.raises(RunFailed) as caught:
        check(values, TargetFormat(dtype="float16"))
    told = str(caught.value)
    assert "embedding/a of image 3 is as large as 1.2e+06" in told
    assert "float16 holds no more than 6.55e+04; set config.store.dtype=float32" in told
    np.testing.assert_array_equal(check(values, TargetFormat(dtype="float32")), values)


@pytest.mark.parametrize("largest, fits", [(65504, True), (65519, True), (65520, False)])
def test_what_rounds_to_the_largest_number_fits(largest, fits):
    values = np.full((BATCH, 3), largest, np.float32)
    if fits:
        assert np.isfinite(check(values, TargetFormat(dtype="float16"))).all()
    else:
        with pytest.raises(RunFailed, match="image 0"):
            check(values, TargetFormat(dtype="float16"))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_are_refused_in_any_dtype(dtype, value):
    values = np.ones((BATCH, 3), np.float32)
    values[2:, 0] = value
    with pytest.raises(RunFailed, match="image 2 is not finite; check the teacher"):
        check(values, TargetFormat(dtype=dtype))


@pytest.mark.parametrize("size", [1e6, np.nan])
def test_probabilities_of_the_most_probable_classes_are_checked_too(size):
    form = TargetFormat(dtype="float16", top_k=2)
    answers = {"logits": {"a": jnp.asarray(logits()).at[4, 3].set(size)}}
    largest = {name: np.asarray(m) for name, m in magnitudes(answers, form).items()}
    assert set(largest) == {"logits/a/top", "logits/a/rest"}
    with pytest.raises(RunFailed, match=r"logits/a/(top|rest) of image 4"):
        check_storable(largest, form, "image {}".format)
