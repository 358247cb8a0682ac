"""The pairs in big_vision's .npz files against a float64 transcription."""

import jax
import numpy as np
import pytest
from big_vision_reference import (
    BIAS,
    LENGTH,
    SCALE,
    TEXT_WIDTH,
    VOCAB,
    image_reference,
    pair_arrays,
    text_reference,
)
from published import HEADS, ROWS, WIDTH, Drawn, real_images

from distill.errors import UserError
from distill.nn import Pair
from teachers.pretrained import open_pair, open_published, open_text

IDS = np.random.default_rng(2).integers(0, VOCAB, (3, LENGTH), np.int32)
SIDE = 32


def opened(path, arrays, **choices):
    np.savez(path, **arrays)
    return open_pair(path, **choices)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embeddings_of(pair):
    images = np.asarray(pair.network.prepare(real_images(SIDE)))
    params = pair.read()
    with jax.default_matmul_precision("highest"):
        return (
            images,
            pair.network.apply(params, images, method=Pair.embed_images),
            pair.network.apply(params, IDS, method=Pair.embed_texts),
            pair.network.apply(params, images, IDS, method=Pair.compare),
        )


@pytest.mark.parametrize(
    "text", [{}, dict(pool="map"), dict(added=True)], ids=["last", "map", "added positions"]
)
def test_a_pair_matches_the_equations(tmp_path, text):
    arrays, image, words = pair_arrays(**text)
    pair = opened(tmp_path / "pair.npz", arrays)
    assert (pair.family, pair.length) == ("siglip", LENGTH)
    assert pair.view.resize == "squash"
    images, ours, theirs, logits = embeddings_of(pair)
    wanted = unit(image_reference(image, "big_vision", "map", images)[0])
    told = unit(text_reference(words, IDS, pool=text.get("pool", "last"))[0])
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(theirs, told, rtol=0, atol=2e-5)
    np.testing.assert_allclose(logits, wanted @ told.T * SCALE + BIAS, rtol=0, atol=2e-3)


def test_layers_one_by_one_or_stacked_with_and_without_params_are_the_same_pair(tmp_path):
    found = []
    for number, (root, scanned) in enumerate(
        [("params/", False), ("", False), ("params/", True), ("", True)]
    ):
        arrays, *_ = pair_arrays(root=root, scanned=scanned, added=True)
        assert any("encoderblock/" in name for name in arrays) == scanned
        found.append(opened(tmp_path / f"{number}.npz", arrays))
    for one in found[1:]:
        assert one.network.config == found[0].network.config
        jax.tree.map(np.testing.assert_array_equal, one.read(), found[0].read())


def test_positions_that_are_added_are_summed_before_they_are_rounded(tmp_path):
    arrays, *_ = pair_arrays(added=True)
    pair = opened(tmp_path / "pair.npz", arrays)
    first, second = (
        arrays[f"params/txt/{name}"][0] for name in ("pos_embedding", "Encoder_0/pos_embedding")
    )
    rounded = pair.read("bfloat16")["text"]["position_embedding"]
    np.testing.assert_array_equal(rounded, (first + second).astype(rounded.dtype))


def test_an_image_tower_may_have_a_head_of_its_own(tmp_path):
    arrays, image, _ = pair_arrays(bias=False)
    drawn = Drawn(WIDTH, seed=3)
    drawn.head(WIDTH)
    arrays |= {f"params/img/{name}": value for name, value in drawn.arrays.items()}
    pair = opened(tmp_path / "pair.npz", arrays)
    images, ours, theirs, logits = embeddings_of(pair)
    embedded, _ = image_reference(image, "big_vision", "map", images)
    wanted = unit(embedded @ drawn.arrays["head/kernel"] + drawn.arrays["head/bias"])
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(logits, ours @ theirs.T * SCALE, rtol=0, atol=2e-3)


def test_shapes_are_read_off_the_tensors(tmp_path):
    arrays, *_ = pair_arrays()
    pair = opened(tmp_path / "pair.npz", arrays, image_size=48)
    text = pair.network.config.text
    assert (text.vocab, text.length, text.width) == (VOCAB, LENGTH, TEXT_WIDTH)
    assert (text.heads, text.embed_dim, text.causal) == (HEADS, WIDTH, False)
    assert pair.network.config.image.image_size == 48
    assert ROWS * 8 == SIDE


def test_one_tower_alone_is_no_pair(tmp_path):
    arrays, _, words = pair_arrays()
    for tower, other in (("img", "text"), ("txt", "image")):
        alone = {k: v for k, v in arrays.items() if f"/{tower}/" in k}
        with pytest.raises(UserError, match=f"has no {other} tower"):
            opened(tmp_path / f"{tower}.npz", alone)
    assert open_text(tmp_path / "txt.npz").network.config.length == LENGTH
    np.savez(tmp_path / "words.npz", **words)
    assert open_text(tmp_path / "words.npz").network.config.embed_dim == WIDTH
    with pytest.raises(UserError, match="holds no text tower"):
        open_text(tmp_path / "img.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("t", None, "params/t is missing"),
        ("txt/pos_embedding", None, "pos_embedding is missing"),
        ("txt/head/bias", None, "head/bias is missing"),
        ("txt/Encoder_0/encoderblock_1/LayerNorm_0/bias", None, "LayerNorm_0/bias is missing"),
        ("txt/head/bias", np.zeros(5, np.float32), r"head/bias is \[5\]; expected \[24\]"),
        ("txt/extra", np.zeros(5, np.float32), r"txt/extra \[5\] belongs to nothing"),
        ("extra", np.zeros(5, np.float32), r"params/extra \[5\] belongs to nothing"),
        ("img/extra", np.zeros(5, np.float32), r"img/extra \[5\] belongs to nothing"),
    ],
)
def test_arrays_that_are_missing_misshapen_or_unknown_are_named(tmp_path, name, value, message):
    arrays, *_ = pair_arrays()
    arrays[f"params/{name}"] = value
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "pair.npz", {k: v for k, v in arrays.items() if v is not None})


def test_the_image_tower_of_a_pair_is_what_it_is_alone(tmp_path):
    arrays, *_ = pair_arrays(scanned=True)
    pair = opened(tmp_path / "pair.npz", arrays)
    alone = open_published(tmp_path / "pair.npz")
    assert alone.network.config == pair.network.config.image
    jax.tree.map(np.testing.assert_array_equal, alone.read(), pair.read()["image"])
