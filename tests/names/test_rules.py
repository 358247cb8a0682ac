"""Layouts against what they stand for, and tables that forget nothing."""

import numpy as np
import pytest

from distill.names.rules import (
    CONVOLUTION,
    FROM_HEADS,
    LINEAR,
    ROWS,
    SAME,
    VECTOR,
    Rule,
    linear,
    write_tensors,
)

rng = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


@pytest.mark.parametrize(
    ("layout", "shape", "stored"),
    [
        (SAME, (2, 3, 4), (2, 3, 4)),
        (VECTOR, (2, 3), (6,)),
        (ROWS, (3, 4, 5), (1, 12, 5)),
        (LINEAR, (5, 2, 3), (6, 5)),
        (FROM_HEADS, (2, 3, 5), (5, 6)),
        (CONVOLUTION, (2, 3, 1, 7), (7, 1, 2, 3)),
    ],
)
def test_what_is_written_is_read(layout, shape, stored):
    parameter = draw(*shape)
    tensor = layout.write(parameter)
    assert tensor.shape == layout.stored(shape) == stored
    np.testing.assert_array_equal(layout.read(tensor, shape), parameter)


def test_linear_maps_are_those_of_pytorch():
    # x·Wᵀ there; here a sum over the inputs' axes.
    to_heads, from_heads = draw(5, 2, 3), draw(2, 3, 5)
    x, y = draw(4, 5), draw(4, 2, 3)
    np.testing.assert_allclose(
        (x @ LINEAR.write(to_heads).T).reshape(4, 2, 3), np.einsum("bi,ihk->bhk", x, to_heads)
    )
    np.testing.assert_allclose(
        y.reshape(4, 6) @ FROM_HEADS.write(from_heads).T, np.einsum("bhk,hko->bo", y, from_heads)
    )


def test_parameters_follow_each_other_in_one_tensor():
    parts = [draw(5, 2, 3), draw(5, 4)]
    rule = Rule("qkv", LINEAR, ("query", "key"))
    tensor = rule.write(parts)
    assert tensor.shape == rule.stored([part.shape for part in parts]) == (10, 5)
    np.testing.assert_array_equal(tensor[:6], parts[0].reshape(5, 6).T)
    for part, read in zip(parts, rule.read(tensor, [p.shape for p in parts]), strict=True):
        np.testing.assert_array_equal(read, part)
    tokens = Rule("positions", ROWS, ("prefix", "table")).write([draw(1, 5), draw(2, 2, 5)])
    assert tokens.shape == (1, 5, 5)


def test_layers_are_numbered_and_nothing_is_forgotten():
    rules = (*linear("layer.#.fc", "mlp"), *linear("absent", "absent"))
    parameters = {"mlp/kernel": draw(2, 3, 4), "mlp/bias": draw(2, 4)}
    tensors = write_tensors(rules, parameters, depth=2)
    assert tensors.keys() == {f"layer.{n}.fc.{k}" for n in range(2) for k in ("weight", "bias")}
    np.testing.assert_array_equal(tensors["layer.1.fc.weight"], parameters["mlp/kernel"][1].T)
    with pytest.raises(ValueError, match="no name for probe, token"):
        write_tensors(rules, parameters | {"token": draw(3), "probe": draw(3)}, depth=2)
