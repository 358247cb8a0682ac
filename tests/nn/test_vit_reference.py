"""The forward pass against a float64 NumPy transcription of the papers' equations.

The transcription follows arXiv 2106.04560 (sequential ViT) and 2302.05442 (ViT-22B) and shares no
code with the library. All parameters are random, biases and scales included, so that no term can
be missing.
"""

import jax
import numpy as np
import pytest

from students import vit
from teachers import vit_22b

WIDTH, DEPTH, MLP, HEADS, PATCH, CLASSES = 24, 3, 40, 3, 4, 5
GRID = (3, 5)
SHAPE = dict(
    width=WIDTH,
    depth=DEPTH,
    mlp_dim=MLP,
    heads=HEADS,
    patch_size=PATCH,
    image_size=(GRID[0] * PATCH, GRID[1] * PATCH),
    num_classes=CLASSES,
)


def random_params(network, seed=0):
    """Random float32 values for every parameter, in nested dicts of NumPy arrays."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = 0.3 * rng.standard_normal(leaf.shape)
        is_scale = path[-1].key == "scale"
        return (values + 1.0 if is_scale else values).astype(np.float32)

    return jax.tree.map_with_path(draw, network.abstract_params)


def reference_layer_norm(x, p):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def reference_rms_norm(x, p, *, center=False):
    assert set(p) == {"scale"}
    if center:
        x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"]


def reference_gelu(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def reference_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference_mlp(x, first, second):
    return reference_gelu(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]


def reference_attend(q, k, v):
    """Head by head: q [B, T, H, K], k and v [B, S, H, K] to [B, T, H, K]."""
    out = np.empty_like(q)
    for h in range(q.shape[2]):
        scores = q[:, :, h] @ k[:, :, h].transpose(0, 2, 1) / np.sqrt(q.shape[3])
        out[:, :, h] = reference_softmax(scores) @ v[:, :, h]
    return out


def reference_split(x, kernel):
    return np.einsum("btd,dhk->bthk", x, kernel)


def reference_attention(x, context, p):
    q = reference_split(x, p["query"]["kernel"]) + p["query"]["bias"]
    k = reference_split(context, p["key"]["kernel"]) + p["key"]["bias"]
    v = reference_split(context, p["value"]["kernel"]) + p["value"]["bias"]
    joined = np.einsum("bthk,hkd->btd", reference_attend(q, k, v), p["out"]["kernel"])
    return joined + p["out"]["bias"]


def reference_patches(images, p):
    """A convolution with stride = kernel size, one output position at a time."""
    kernel, bias = p["linear"]["kernel"], p["linear"]["bias"]
    rows, columns = images.shape[1] // PATCH, images.shape[2] // PATCH
    out = np.empty((images.shape[0], rows, columns, WIDTH))
    for r in range(rows):
        for c in range(columns):
            window = images[:, r * PATCH : (r + 1) * PATCH, c * PATCH : (c + 1) * PATCH]
            out[:, r, c] = np.einsum("bijc,ijcd->bd", window, kernel) + bias
    return out


def reference_sincos2d():
    """MoCo v3: [sin(x·ω), cos(x·ω), sin(y·ω), cos(y·ω)], ω from 1 down to 1/10000."""
    quarter = WIDTH // 4
    table = np.empty((*GRID, WIDTH))
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            for i in range(quarter):
                omega = 1.0 / 10_000 ** (i / (quarter - 1))
                table[y, x, i] = np.sin(x * omega)
                table[y, x, quarter + i] = np.cos(x * omega)
                table[y, x, 2 * quarter + i] = np.sin(y * omega)
                table[y, x, 3 * quarter + i] = np.cos(y * omega)
    return table


def sequential_block(x, p):
    y = reference_layer_norm(x, p["attention_norm"])
    x = x + reference_attention(y, y, p["attention"])
    y = reference_layer_norm(x, p["mlp_norm"])
    return x + reference_mlp(y, p["mlp"]["input"], p["mlp"]["output"])


def parallel_block(x, p, *, center):
    y = reference_rms_norm(x, p["norm"])
    q, k, v = (reference_split(y, p[name]["kernel"]) for name in ("query", "key", "value"))
    q = reference_rms_norm(q, p["qk_norm"]["query"], center=center)
    k = reference_rms_norm(k, p["qk_norm"]["key"], center=center)
    attended = reference_attend(q, k, v)
    attention = np.einsum("bthk,hkd->btd", attended, p["attention_out"]["kernel"])
    return x + attention + reference_mlp(y, p["mlp_in"], p["mlp_out"])


def reference_map_head(x, p, norm):
    probe = np.broadcast_to(p["probe"], (x.shape[0], 1, WIDTH))
    x = reference_attention(probe, x, p["attention"])
    x = x + reference_mlp(norm(x, p["norm"]), p["mlp"]["input"], p["mlp"]["output"])
    return x[:, 0]


def reference_forward(params, images, *, head, position, block, norm):
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    table = p["position"]["table"] if position == "learned" else reference_sincos2d()
    x = reference_patches(images.astype(np.float64), p["patch_embed"]) + table
    x = x.reshape(len(images), GRID[0] * GRID[1], WIDTH)
    if head == "cls":
        token = np.broadcast_to(p["class_token"], (len(images), 1, WIDTH))
        x = np.concatenate([token, x], axis=1)
    for layer in range(DEPTH):
        x = block(x, jax.tree.map(lambda a, i=layer: a[i], p["encoder"]["blocks"]))
    x = norm(x, p["encoder"]["norm"])
    if head == "map":
        embedding, tokens = reference_map_head(x, p["head"], norm), x
    elif head == "gap":
        embedding, tokens = x.mean(axis=1), x
    else:
        embedding, tokens = x[:, 0], x[:, 1:]
    logits = embedding @ p["classifier"]["kernel"] + p["classifier"]["bias"]
    return logits, embedding, tokens


def assert_matches(network, **reference):
    params = random_params(network)
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (2, *network.config.image_shape)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        output = jax.jit(network.apply)(params, images)
    expected = reference_forward(params, images, **reference)
    for name, actual, wanted in zip(output._fields, output, expected, strict=True):
        assert actual.shape == wanted.shape, name
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("head", "position", "channels"),
    [
        ("map", "learned", 3),
        ("gap", "learned", 1),
        ("cls", "learned", 3),
        ("map", "sincos2d", 1),
        ("cls", "sincos2d", 1),
    ],
)
def test_sequential_vit_matches_the_equations(head, position, channels):
    config = vit.configure(
        "S/4", **SHAPE, head=head, position_embedding=position, channels=channels
    )
    assert_matches(
        vit.build(config),
        head=head,
        position=position,
        block=sequential_block,
        norm=reference_layer_norm,
    )


@pytest.mark.parametrize(
    ("head", "channels", "center", "fused"),
    [("map", 3, False, False), ("map", 1, False, True), ("gap", 3, True, False)],
)
def test_vit_22b_matches_the_equations(head, channels, center, fused):
    config = vit_22b.configure(
        **SHAPE, head=head, channels=channels, qk_norm_center=center, fused=fused
    )
    assert_matches(
        vit_22b.build(config),
        head=head,
        position="learned",
        block=lambda x, p: parallel_block(x, p, center=center),
        norm=reference_rms_norm,
    )
