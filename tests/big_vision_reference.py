"""A float64 transcription of big_vision's and vision_transformer's models, of their files' arrays.

It reads arrays in the layout of Flax and shares no code with the library; it follows the `Vit`
modules of both repositories, and big_vision's `text_transformer`.
"""

import numpy as np
from published import DEPTH, PATCH, ROWS, STYLES, WIDTH, Drawn, big_vision_arrays

# Of text towers, whose head is as wide as the image tower.
VOCAB, LENGTH, TEXT_WIDTH, TEXT_DEPTH = 19, 6, 36, 3
SCALE, BIAS = 112.0, -16.5


class Layers:
    """What models are made of, with the parameters of a file."""

    def __init__(self, arrays, *, causal=False):
        self.arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        self.causal = causal

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * self.arrays[f"{name}/scale"] + self.arrays[f"{name}/bias"]

    def attention(self, x, context, name):
        def project(y, part):
            kernel, bias = (self.arrays[f"{name}/{part}/{leaf}"] for leaf in ("kernel", "bias"))
            return np.einsum("btd,dhk->bthk", y, kernel) + bias

        q, k, v = project(x, "query"), project(context, "key"), project(context, "value")
        scores = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(q.shape[-1])
        if self.causal and x is context:
            later = np.arange(x.shape[1]) > np.arange(x.shape[1])[:, None]
            scores = np.where(later, -np.inf, scores)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        attended = np.einsum("bhts,bshk->bthk", shares, v)
        out = np.einsum("bthk,hkd->btd", attended, self.arrays[f"{name}/out/kernel"])
        return out + self.arrays[f"{name}/out/bias"]

    def dense(self, x, name):
        return x @ self.arrays[f"{name}/kernel"] + self.arrays[f"{name}/bias"]

    def mlp(self, x, name):
        x = self.dense(x, f"{name}/Dense_0")
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return self.dense(x, f"{name}/Dense_1")

    def encoder(self, x, name, depth, style="big_vision"):
        for layer in range(depth):
            first, attend, second, hidden = (
                f"{name}/encoderblock_{layer}/{part}" for part in STYLES[style]
            )
            y = self.norm(x, first)
            x = x + self.attention(y, y, attend)
            x = x + self.mlp(self.norm(x, second), hidden)
        return self.norm(x, f"{name}/encoder_norm")

    def map_head(self, x):
        probe = np.tile(self.arrays["MAPHead_0/probe"], (len(x), 1, 1))
        x = self.attention(probe, x, "MAPHead_0/MultiHeadDotProductAttention_0")
        x = x + self.mlp(self.norm(x, "MAPHead_0/LayerNorm_0"), "MAPHead_0/MlpBlock_0")
        return x[:, 0]


def image_reference(arrays, style, head, images):
    """Embedding and logits, in float64."""
    layers = Layers(arrays)
    a = layers.arrays
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
    x = layers.encoder(x, "Transformer", DEPTH, style)
    pool = {"map": layers.map_head, "cls": lambda x: x[:, 0], "gap": lambda x: x.mean(1)}[head]
    x = pool(x)
    return x, layers.dense(x, "head") if "head/kernel" in a else None


def text_reference(arrays, ids, *, pool="last", causal=False, eos_id=None):
    """Embedding and tokens, in float64."""
    layers = Layers(arrays, causal=causal)
    a = layers.arrays
    x = a["Embed_0/embedding"][ids] + a["pos_embedding"]
    tokens = layers.encoder(x + a.get("Encoder_0/pos_embedding", 0), "Encoder_0", TEXT_DEPTH)
    pooled = {
        "last": lambda: tokens[:, -1],
        "first": lambda: tokens[:, 0],
        "mean": lambda: tokens.mean(1),
        "max": lambda: tokens.max(1),
        "map": lambda: layers.map_head(tokens),
        "argmax": lambda: np.stack(
            [one[list(row).index(max(row))] for one, row in zip(tokens, ids, strict=True)]
        ),
        "eos": lambda: np.stack(
            [one[list(row).index(eos_id)] for one, row in zip(tokens, ids, strict=True)]
        ),
    }[pool]()
    return layers.dense(pooled, "head") if "head/kernel" in a else pooled, tokens


def text_arrays(*, pool="last", head=True, added=False):
    """The arrays of a text tower of big_vision, by name."""
    drawn = Drawn(TEXT_WIDTH, seed=1)
    drawn.draw("Embed_0/embedding", VOCAB, TEXT_WIDTH)
    drawn.draw("pos_embedding", 1, LENGTH, TEXT_WIDTH)
    if added:
        drawn.draw("Encoder_0/pos_embedding", 1, LENGTH, TEXT_WIDTH)
    drawn.encoder("Encoder_0", TEXT_DEPTH)
    if pool == "map":
        drawn.map_head()
    if head:
        drawn.head(WIDTH)
    return drawn.arrays


def stacked(arrays):
    """The same, its layers stacked as big_vision's scanned encoder has them."""
    found = {k: v for k, v in arrays.items() if "encoderblock_" not in k}
    for name in arrays:
        if "encoderblock_0/" in name:
            layers, layer = [], name
            while layer in arrays:
                layers.append(arrays[layer])
                layer = name.replace("block_0/", f"block_{len(layers)}/")
            found[name.replace("encoderblock_0/", "encoderblock/", 1)] = np.stack(layers)
    return found


def pair_arrays(*, root="params/", scanned=False, bias=True, **text):
    """A pair's arrays, and those of its towers alone."""
    image, words = big_vision_arrays("big_vision", "map", classes=0), text_arrays(**text)
    arrays = {f"{root}t": np.log([SCALE]).astype(np.float32)}
    if bias:
        arrays[f"{root}b"] = np.float32([BIAS])
    for folder, tower in {"img": image, "txt": words}.items():
        tower = stacked(tower) if scanned else tower
        arrays |= {f"{root}{folder}/{name}": value for name, value in tower.items()}
    return arrays, image, words
