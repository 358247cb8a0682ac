"""The transformer over frames beside its formulas in float64 NumPy."""

import math

import jax
import numpy as np
import pytest

from distill.errors import RunFailed
from distill.evaluate import temporal
from distill.evaluate.temporal import (
    TemporalConfig,
    TemporalTraining,
    class_probabilities,
    fit_temporal,
    temporal_network,
)


def drawn(network, scale=0.6):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.float32(scale * rng.standard_normal(leaf.shape)), network.abstract_params
    )


def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def by_formula(params, clips, depth, heads):
    """One clip, block and head at a time."""
    params = jax.tree.map(np.float64, params)
    logits = []
    for x in clips.astype(np.float64):
        if "projection" in params:
            x = x @ params["projection"]["kernel"] + params["projection"]["bias"]
        x = np.concatenate([params["class_token"][0], x]) + params["position"]
        for layer in range(depth):
            block = jax.tree.map(lambda p, layer=layer: p[layer], params["encoder"]["blocks"])
            y, attention = norm(x, block["attention_norm"]), block["attention"]
            for head in range(heads):
                q, k, v = (
                    y @ attention[name]["kernel"][:, head] + attention[name]["bias"][head]
                    for name in ("query", "key", "value")
                )
                scores = np.exp(q @ k.T / math.sqrt(q.shape[1]))
                mixed = scores / scores.sum(1, keepdims=True) @ v
                x = x + mixed @ attention["out"]["kernel"][head]
            x = x + attention["out"]["bias"]
            y, mlp = norm(x, block["mlp_norm"]), block["mlp"]
            y = y @ mlp["input"]["kernel"] + mlp["input"]["bias"]
            y = y / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
            x = x + y @ mlp["output"]["kernel"] + mlp["output"]["bias"]
        classifier = params["classifier"]
        logits.append(
            norm(x, params["encoder"]["norm"])[0] @ classifier["kernel"] + classifier["bias"]
        )
    return np.stack(logits)


@pytest.mark.parametrize(("features", "width"), [(12, 12), (7, 16)])
def test_logits_are_those_of_the_formulas(features, width):
    config = TemporalConfig.of(features, 5, 3, width=width, depth=2, heads=4)
    network = temporal_network(config)
    params = drawn(network)
    assert ("projection" in params) == (features != width)
    clips = np.random.default_rng(1).standard_normal((4, 5, features)).astype(np.float32)
    found = network.apply(params, clips)
    np.testing.assert_allclose(found, by_formula(params, clips, 2, 4), rtol=1e-4, atol=1e-4)
    # The order of frames counts.
    assert np.abs(network.apply(params, clips[:, ::-1]) - found).max() > 1e-2


def test_probabilities_are_the_softmax_of_blocks_of_clips(monkeypatch):
    network = temporal_network(TemporalConfig.of(6, 3, 4, depth=1))
    params = drawn(network)
    clips = np.random.default_rng(1).standard_normal((10, 3, 6)).astype(np.float32)
    logits = by_formula(params, clips, 1, 1)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    monkeypatch.setattr(temporal, "_BLOCK", 4)
    found = class_probabilities(network, params, lambda rows: clips[rows], 10)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("features", "width", "heads"),
    [(768, 768, 12), (1152, 1152, 18), (1408, 1408, 22), (6144, 1536, 24), (48, 48, 1),
     (134, 134, 2), (7, 7, 1)],
)  # fmt: skip
def test_the_shape_follows_from_the_embedding(features, width, heads):
    config = TemporalConfig.of(features, 8, 10)
    found = config.width, config.heads, config.mlp_dim, config.depth
    assert found == (width, heads, 4 * width, 4)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="width 10 is not divisible by heads 4"):
        TemporalConfig.of(10, 8, 2, heads=4)


def batches(step):
    """Which of two classes a clip is of, the order of its frames says alone."""
    rng = np.random.default_rng((0, step))
    labels = np.arange(16) % 2
    ends = np.array([[1, -1], [-1, 1]])[labels]
    return ends[..., None].astype(np.float32) + 0.1 * rng.standard_normal((16, 2, 3), "f"), labels


def training(**choices):
    return TemporalTraining(
        **dict(steps=60, learning_rate=1e-2, weight_decay=1e-4, seed=3) | choices
    )


@pytest.mark.slow
def test_training_finds_what_order_says_and_is_a_function_of_its_seed():
    network = temporal_network(TemporalConfig.of(3, 2, 2, width=8, depth=1))
    fitted = fit_temporal(network, training(), batches)
    clips, labels = batches(1000)
    assert (np.argmax(network.apply(fitted, clips), 1) == labels).all()
    again = fit_temporal(network, training(), batches)
    jax.tree.map(np.testing.assert_array_equal, fitted, again)
    other = fit_temporal(network, training(seed=4), batches)
    assert not np.array_equal(other["position"], fitted["position"])


def test_a_loss_that_is_not_finite_ends_it():
    network = temporal_network(TemporalConfig.of(3, 2, 2, width=8, depth=1))

    def broken(step):
        clips, labels = batches(step)
        return clips * (np.nan if step == 4 else 1), labels

    with pytest.raises(RunFailed, match=r"is nan at step 5 of 60; lower its learning_rate"):
        fit_temporal(network, training(), broken)
