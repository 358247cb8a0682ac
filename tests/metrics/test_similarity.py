"""Linear CKA, gathered over batches, against its kernel form in float64."""

from unittest.mock import Mock

import jax
import numpy as np
import pytest

from distill.errors import RunFailed
from distill.evaluate import Evaluator
from distill.metrics import LinearCKA, label_metrics

COUNT, BATCH = 90, 16


def kernel_cka(x, y):
    """HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L)) with K = XXᵀ, L = YYᵀ (arXiv 1905.00414, eq. 2, 3)."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, m = (centre @ (f @ f.T) @ centre for f in (x, y))
    return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


def batches(x, y):
    """In several batches, with what nobody may look at where the mask is 0."""
    count = -(-len(x) // BATCH) * BATCH
    x, y = (np.pad(f, ((0, count - len(f)), (0, 0)), constant_values=np.nan) for f in (x, y))
    labels, mask = np.arange(count) % 3, np.arange(count) < COUNT
    for part in (slice(start, start + BATCH) for start in range(0, count, BATCH)):
        yield {"x": x[part], "y": y[part], "label": labels[part], "mask": mask[part]}


def pair_of(params, frozen, batch):
    return {"cka": LinearCKA.of(batch["x"], batch["y"], batch["mask"])}


def cka(x, y):
    return Evaluator("val", batches(x, y), pair_of)({}, None).get("val/cka")


def features(left, right):
    """Features that have something in common, but not everything."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((COUNT, left)) * rng.uniform(0.2, 2.0, left)
    y = x @ rng.standard_normal((left, right)) + 2 * rng.standard_normal((COUNT, right))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("left, right", [(5, 5), (5, 12), (12, 5), (COUNT + 10, 3)])
def test_it_is_the_kernel_form(left, right):
    x, y = features(left, right)
    expected = kernel_cka(x.astype(np.float64), y.astype(np.float64))
    assert 0.05 < expected < 0.9
    found = cka(x, y)
    assert isinstance(found, float) and found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "offset",
    [np.full((COUNT, 1), 1e4), np.linspace(-1e3, 1e3, COUNT)[:, None] + 1e4, np.arange(5) * 3e3],
    ids=["common", "drifting", "by feature"],
)
def test_an_offset_costs_no_precision(offset):
    """Sums of squares in float32 would lose features of size 1 on 10,000 altogether."""
    x, y = features(5, 12)
    x, y = (x + offset).astype(np.float32), y - np.float32(5e3)
    assert cka(x, y) == pytest.approx(
        kernel_cka(x.astype(np.float64), y.astype(np.float64)), rel=1e-4
    )


def test_rotation_and_scale_change_nothing_and_another_basis_does():
    x, y = features(6, 9)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    assert cka((100 * x @ rotation).astype(np.float32), y) == pytest.approx(cka(x, y), rel=1e-4)
    assert cka(x, (0.01 * x @ rotation).astype(np.float32)) == pytest.approx(1, abs=1e-5)
    stretched = x * np.array([1, 1, 1, 1, 1, 30], np.float32)
    assert abs(cka(stretched, y) - cka(x, y)) > 0.01


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_of_constant_features_nothing_is_said_but_why(constant, caplog):
    x, _ = features(5, 5)
    same = np.full((COUNT, 7), constant, np.float32)
    assert cka(x, same) is None and cka(same, x) is None and cka(same, same) is None
    assert "val/cka missing: none of 90 images has features that differ" in caplog.text


class Numbered(list):
    """Batches of images that are named by their numbers."""

    source = Mock(describe="image {}".format)


@pytest.mark.parametrize("row", [0, 15, 16, 70, 89])
def test_the_first_image_whose_features_are_not_finite_is_named(row):
    x, y = features(5, 5)
    x[row, 2] = np.nan
    x[row + 1 :, 1] = np.inf
    numbered = Numbered(
        batch | {"index": np.arange(BATCH) + BATCH * number}
        for number, batch in enumerate(batches(x, y))
    )
    with pytest.raises(RunFailed, match=f"val/cka of image {row} is not finite"):
        Evaluator("val", numbered, pair_of)({})


def test_other_metrics_are_not_touched():
    x, y = features(5, 5)

    def alone(params, frozen, batch):
        return label_metrics(batch["x"], batch["label"], where=batch["mask"])

    def beside(params, frozen, batch):
        return alone(params, frozen, batch) | pair_of(params, frozen, batch)

    x[COUNT:] = 0
    given = [{**batch, "x": np.nan_to_num(batch["x"])} for batch in batches(x, y)]
    expected, found = (Evaluator("val", given, metrics)({}) for metrics in (alone, beside))
    assert found.pop("val/cka") > 0
    assert found == expected


def test_no_array_of_all_products_of_all_examples_is_made():
    shapes = np.zeros((64, 30), np.float32), np.zeros((64, 20), np.float32)
    jaxpr = jax.make_jaxpr(LinearCKA.of)(*shapes, np.ones(64, bool))
    largest = max(var.aval.size for eqn in jaxpr.jaxpr.eqns for var in eqn.outvars)
    assert largest == 64 * 30
