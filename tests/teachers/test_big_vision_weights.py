"""The .npz files of big_vision and vision_transformer against a float64 transcription.

The transcription reads the file's own arrays, in the layout of Flax, and shares no code with the
library; it follows the `Vit` modules of both repositories.
"""

import jax
import numpy as np
import pytest
from published import (
    CLASSES,
    DEPTH,
    HEADS,
    MLP,
    PATCH,
    ROWS,
    STYLES,
    WIDTH,
    assert_equal,
    big_vision_arrays,
    outputs,
)

from distill.errors import UserError
from teachers.pretrained import open_published


def reference(arrays, style, head, images):
    """Embedding and logits, in float64."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * a[f"{name}/scale"] + a[f"{name}/bias"]

    def attention(x, context, name):
        def project(y, part):
            kernel, bias = a[f"{name}/{part}/kernel"], a[f"{name}/{part}/bias"]
            return np.einsum("btd,dhk->bthk", y, kernel) + bias

        q, k, v = project(x, "query"), project(context, "key"), project(context, "value")
        scores = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        attended = np.einsum("bhts,bshk->bthk", shares, v)
        return np.einsum("bthk,hkd->btd", attended, a[f"{name}/out/kernel"]) + a[f"{name}/out/bias"]

    def mlp(x, name):
        x = x @ a[f"{name}/Dense_0/kernel"] + a[f"{name}/Dense_0/bias"]
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return x @ a[f"{name}/Dense_1/kernel"] + a[f"{name}/Dense_1/bias"]

    x = images.astype(np.float64).reshape(len(images), ROWS, PATCH, ROWS, PATCH, 3)
    x = np.einsum("bipjqc,pqcd->bijd", x, a["embedding/kernel"]) + a["embedding/bias"]
    x = x.reshape(len(images), -1, WIDTH)
    if "pos_embedding" in a:
        x = x + a["pos_embedding"]
    elif style == "big_vision":
        y, z = np.mgrid[:ROWS, :ROWS]
        omega = 1 / 10_000 ** (np.arange(WIDTH // 4) / (WIDTH // 4 - 1))
        y, z = (np.einsum("m,d->md", side.flatten(), omega) for side in (y, z))
        x = x + np.concatenate([np.sin(z), np.cos(z), np.sin(y), np.cos(y)], 1)
    if head == "cls":
        x = np.concatenate([np.tile(a["cls"], (len(x), 1, 1)), x], 1)
    if style == "original":
        x = x + a["Transformer/posembed_input/pos_embedding"]
    for layer in range(DEPTH):
        first, attend, second, hidden = (
            f"Transformer/encoderblock_{layer}/{part}" for part in STYLES[style]
        )
        y = norm(x, first)
        x = x + attention(y, y, attend)
        x = x + mlp(norm(x, second), hidden)
    x = norm(x, "Transformer/encoder_norm")
    if head == "map":
        probe = np.tile(a["MAPHead_0/probe"], (len(x), 1, 1))
        x = attention(probe, x, "MAPHead_0/MultiHeadDotProductAttention_0")
        x = x + mlp(norm(x, "MAPHead_0/LayerNorm_0"), "MAPHead_0/MlpBlock_0")
        x = x[:, 0]
    else:
        x = x[:, 0] if head == "cls" else x.mean(1)
    if "head/kernel" not in a:
        return x, None
    return x, x @ a["head/kernel"] + a["head/bias"]


def stacked(arrays):
    """The same, its layers stacked as big_vision's scanned encoder has them."""
    found = {k: v for k, v in arrays.items() if "encoderblock_" not in k}
    for name in arrays:
        if "encoderblock_0/" in name:
            layers = [arrays[name.replace("_0/", f"_{i}/", 1)] for i in range(DEPTH)]
            found[name.replace("encoderblock_0/", "encoderblock/", 1)] = np.stack(layers)
    return found


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
