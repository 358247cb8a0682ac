"""Principal components of tokens, and what of them another model tells."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from distill.analysis.token_colours import carried, colours, principal_components
from distill.errors import RunFailed


def tokens(seed, count=300, width=24):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + 5


def test_components_are_those_of_scikit_learn():
    x = tokens(0)
    basis = principal_components(x, 6)
    reference = PCA(6).fit(x)
    ours, theirs = basis(x), reference.transform(x)
    signs = np.sign(np.sum(ours * theirs, axis=0))
    np.testing.assert_allclose(ours * signs, theirs, atol=1e-8)
    assert np.all(np.abs(basis.directions).max(axis=0) == basis.directions.max(axis=0))


def test_another_model_is_coloured_by_what_it_tells_of_the_first():
    x = tokens(1, 2 * 48).reshape(2, 6, 8, 24)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(24, 24)))[0]
    first = [*principal_components(x.reshape(-1, 24))(x)]
    turned = x @ rotation * 3 - 1
    other = [*principal_components(turned.reshape(-1, 24))(turned)]
    found, share = carried(first, other)
    assert share == pytest.approx(1, abs=1e-6)
    for ours, theirs in zip(colours(found), colours(first), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    noise = [*np.random.default_rng(3).normal(size=(2, 6, 8, 4))]
    _, low = carried(first, noise)
    flat, wanted = np.reshape(noise, (-1, 4)), np.reshape(first, (-1, 16))[:, :3]
    fitted = LinearRegression().fit(flat, wanted).predict(flat)
    centred = wanted - wanted.mean(axis=0)
    assert low == pytest.approx(1 - np.sum((wanted - fitted) ** 2) / np.sum(centred**2), abs=1e-5)
    assert low < 0.3


def test_grids_may_differ_and_what_does_not_vary_is_grey():
    first, other = [np.ones((4, 4, 2))], [np.zeros((7, 3, 5))]
    maps, share = carried(first, other)
    assert share is None and maps[0].shape == (7, 3, 2)
    np.testing.assert_array_equal(colours(first)[0], np.full((4, 4, 3), 0.5))


def test_tokens_that_are_not_finite_are_named():
    x = tokens(4)
    x[7, 3] = np.nan
    with pytest.raises(RunFailed, match="token 7 of 300"):
        principal_components(x)
