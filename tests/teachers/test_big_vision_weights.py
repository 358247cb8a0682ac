"""The .npz files of big_vision and vision_transformer against a float64 transcription."""

import jax
import numpy as np
import pytest
from big_vision_reference import image_reference as reference
from big_vision_reference import stacked
from published import (
    CLASSES,
    DEPTH,
    HEADS,
    MLP,
    PATCH,
    ROWS,
    WIDTH,
    assert_equal,
    big_vision_arrays,
    outputs,
)

from distill.errors import UserError
from teachers.pretrained import open_published


@pytest.mark.parametrize(
    ("style", "head", "sincos"),
    [
        ("original", "cls", False),
        ("original", "gap", False),
        ("big_vision", "cls", False),
        ("big_vision", "map", False),
        ("big_vision", "gap", True),
    ],
)
def test_npz_matches_the_equations(tmp_path, style, head, sincos):
    arrays = big_vision_arrays(style, head, sincos=sincos)
    np.savez(tmp_path / "vit.npz", **arrays)
    size = dict(image_size=ROWS * PATCH) if sincos else {}
    found, images = outputs(tmp_path / "vit.npz", **size)
    assert images.shape == (2, ROWS * PATCH, ROWS * PATCH, 3)
    embedding, logits = reference(arrays, style, head, images)
    assert_equal(found.embedding, embedding)
    assert_equal(found.logits, logits)


@pytest.mark.parametrize("prefix", ["params/img/", "img/"])
def test_the_image_tower_of_siglip_is_found_beside_the_text_tower(tmp_path, prefix):
    arrays = big_vision_arrays("big_vision", "map", classes=0)
    root = prefix.removesuffix("img/")
    text = {
        f"{root}txt/head/kernel": np.ones((3, 3)),
        f"{root}t": np.ones(1),
        f"{root}b": np.ones(1),
    }
    for name, tower in {"layers": arrays, "stack": stacked(arrays)}.items():
        file = tmp_path / f"{name}.npz"
        np.savez_compressed(file, **{prefix + k: v for k, v in tower.items()}, **text)
        found, images = outputs(file)
        assert_equal(found.embedding, reference(arrays, "big_vision", "map", images)[0])
        assert found.logits.shape == (2, 0)


def test_bfloat16_is_read_though_numpy_has_no_name_for_it(tmp_path):
    arrays = big_vision_arrays("big_vision", "map")
    halved = {name: array.astype(jax.numpy.bfloat16) for name, array in arrays.items()}
    np.savez(tmp_path / "vit.npz", **halved)
    with np.load(tmp_path / "vit.npz") as file:
        assert file["embedding/bias"].dtype == np.dtype("V2")
    found, images = outputs(tmp_path / "vit.npz")
    rounded = {name: array.astype(np.float32) for name, array in halved.items()}
    assert_equal(found.logits, reference(rounded, "big_vision", "map", images)[1])


def test_heads_and_sizes_are_read_off_the_tensors(tmp_path):
    np.savez(tmp_path / "vit.npz", **big_vision_arrays("original", "cls"))
    config = open_published(tmp_path / "vit.npz").network.config
    assert (config.width, config.depth, config.mlp_dim, config.heads) == (WIDTH, DEPTH, MLP, HEADS)
    assert (config.patch_size, config.image_size, config.num_classes) == (PATCH, 32, CLASSES)
    larger = open_published(tmp_path / "vit.npz", image_size=48)
    assert larger.read()["position"]["table"].shape == (6, 6, WIDTH)


def test_a_layer_without_use_is_named(tmp_path):
    arrays = big_vision_arrays("original", "cls")
    np.savez(tmp_path / "vit.npz", **arrays, **{"pre_logits/bias": np.zeros(WIDTH, np.float32)})
    with pytest.raises(UserError, match=r"pre_logits/bias \[24\] belongs to nothing in the model"):
        open_published(tmp_path / "vit.npz")
