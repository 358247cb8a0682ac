"""Pairs evaluated while they are trained: classes by their texts, and retrieval."""

import dataclasses

import jax
import numpy as np
import pytest
from captions import ALL, CAPTIONS, in_folder, tokenizer_of_all

from distill.analysis.retrieval import retrieval
from distill.data import DataConfig
from distill.data.tokens import Tokenizer, train_tokenizer
from distill.errors import UserError
from distill.evaluate.retrieval import RetrievalConfig
from distill.evaluate.zeroshot import ZeroShotEvaluationConfig
from distill.evaluation_view import EvaluationView
from distill.nn import Pair, PairNetwork, TextConfig
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject
from students import vit

DIGITS = "zero one two three four five six seven eight nine".split()
TEXT = TextConfig(vocab=200, length=8, width=16, heads=2, depth=1, mlp_dim=24, embed_dim=32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tokenizer_of_all(tmp_path_factory.mktemp("vocabulary") / "tokenizer.json")


@pytest.fixture(scope="module")
def pair():
    """A pair whose every parameter is random, as one that has just begun tells nothing apart."""
    shape = dict(image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0)
    image = vit.build(vit.configure("mu/4", **shape))
    network = PairNetwork.of(image, TEXT, bias=True).placed(make_mesh(MeshConfig()))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(
        lambda leaf: np.float32(0.5 * rng.standard_normal(leaf.shape) + (leaf.shape == ())),
        network.abstract_params,
    )
    # Else all images embed alike.
    drawn["image"]["patch_embed"]["linear"]["kernel"] *= 10
    return network, jax.device_put(drawn, network.shardings)


def subject(network, tokenizer, **choices):
    data = DataConfig(threads=1, captions=tokenizer)
    return Subject(
        **dict(
            place="here",
            network=network,
            class_names=(),
            view=EvaluationView(crop=1.0, resize="squash"),
            data=data,
            split="test",
            metrics=lambda images: None,
            view_size=8,
            batch_size=32,
            tokenizer=tokenizer,
        )
        | choices
    )


def embedded(network, params, source, split):
    """Embeddings of a source's images, and their labels, one by one."""
    data = DataConfig(threads=1, source=source)
    images = data.open_evaluation(split, channels=3, labelled=False)
    shown = []
    for number in range(len(images)):
        pixels = np.asarray(images.read(number)["image"], np.float32)
        shown.append(jax.image.resize(pixels, (8, 8, 3), "bilinear"))
    prepared = network.prepare(np.stack(shown))
    return np.float64(network.apply(params, prepared, method=Pair.embed_images)), images.labels


def test_images_are_of_the_class_whose_text_is_nearest(pair, tokenizer, tmp_path):
    network, params = pair
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"{name}, the {name}" for name in DIGITS))
    config = ZeroShotEvaluationConfig(
        source="digits", split="test", class_names=str(names), templates="one {}"
    )
    evaluation = config.build("digits", subject(network, tokenizer))
    found = evaluation(params)
    images, labels = embedded(network, params, "digits", "test")
    texts = [text for name in DIGITS for text in (f"one {name}", f"one the {name}")]
    vectors = np.float64(network.apply(params, tokenizer(texts), method=Pair.embed_texts))
    vectors = vectors.reshape(10, 2, -1).mean(1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-images @ vectors.T, axis=1)
    assert len(np.unique(order[:, 0])) > 2
    assert found["digits/accuracy"] == pytest.approx(np.mean(order[:, 0] == labels), abs=1e-3)
    five = np.mean((order[:, :5] == labels[:, None]).any(1))
    assert found["digits/top5_accuracy"] == pytest.approx(five, abs=1e-3)
    about = evaluation.about()["zeroshot"]
    assert (about["texts"], about["templates"], about["canonical"]) == (20, "one {}", True)
    # Of other parameters of the text tower, class vectors are others.
    other = {**params, "text": jax.tree.map(lambda leaf: leaf * 1.5, params["text"])}
    assert evaluation(other) != found and evaluation(params) == found
    assert config.files().keys() == {"class_names"}


def test_the_datas_own_names_and_the_shipped_templates_stand_for_classes(pair, tokenizer):
    network, params = pair
    built = ZeroShotEvaluationConfig().build("val", subject(network, tokenizer))
    assert any("10 classes by 80 texts, templates short" in one for one in built.remarks)
    assert {"val/accuracy", "val/top5_accuracy"} <= built(params).keys()
    without = subject(network, tokenizer, split=None)
    assert ZeroShotEvaluationConfig().build("val", without) is None
    assert RetrievalConfig().build("val", without) is None


def test_retrieval_is_of_all_captions_of_all_images_that_have_one(pair, tokenizer, tmp_path):
    network, params = pair
    folder = in_folder(tmp_path / "images")
    config = RetrievalConfig(source=f"images:{folder}", split="train")
    # One of six images has no caption.
    shown = subject(network, tokenizer)
    lenient = dataclasses.replace(shown.data, max_corrupt_share=0.5)
    evaluation = config.build("retrieval", dataclasses.replace(shown, data=lenient))
    found = evaluation(params)
    images, _ = embedded(network, params, f"images:{folder}", "train")
    texts = np.float64(network.apply(params, tokenizer(ALL), method=Pair.embed_texts))
    image_of = np.repeat(np.arange(5), [len(some) for some in CAPTIONS[:5]])
    wanted = retrieval(images[:5], texts, image_of).counts()
    assert found == {f"retrieval/{name}": hits / of for name, (hits, of) in wanted.items()}
    assert found.keys() >= {"retrieval/text_to_image@1", "retrieval/image_to_text@10"}
    assert 0 < found["retrieval/text_to_image@1"] < 1
    assert evaluation.seen() == [f"5 images and {len(ALL)} captions of images:{folder}"]
    assert evaluation.about()["details"]["counts"]["image_to_text@10"] == [5, 5]


def test_what_does_not_fit_is_said(pair, tokenizer, tmp_path):
    network, _ = pair
    ask = ZeroShotEvaluationConfig(source="digits", split="test")

    def refused(config, message, **choices):
        with pytest.raises(UserError, match=message):
            config.build("digits", subject(**dict(network=network, tokenizer=tokenizer) | choices))

    plain = vit.build(vit.configure("mu/4", image_size=8, num_classes=10)).placed(network.mesh)
    for config in (ask, RetrievalConfig(source="digits", split="test")):
        refused(config, "in here is no pair", network=plain)
        refused(config, "nothing says how texts become tokens", tokenizer=None)
        longer = dataclasses.replace(tokenizer, length=9)
        refused(config, "makes 9 tokens of a text, and the text tower takes 8", tokenizer=longer)
    refused(RetrievalConfig(source="digits", split="test"), "there are no captions")
    names = tmp_path / "names.txt"
    names.write_text("zero\none\n")
    short = dataclasses.replace(ask, class_names=str(names))
    refused(short, "has 2 lines, but the data has 10 classes")
    names.write_text("\n".join([*DIGITS[:9], "?!"]))
    refused(short, "nothing is left of the name '\\?!'")
    train_tokenizer([*DIGITS, "of all that is in a picture"], 300, str(tmp_path / "big.json"))
    small = dataclasses.replace(network.config, text=dataclasses.replace(TEXT, vocab=5))
    of_five = dataclasses.replace(network, config=small)
    big = Tokenizer(path=str(tmp_path / "big.json"), family="siglip2", length=8)
    refused(ask, "the text tower 5 tokens: it is the vocabulary of", network=of_five, tokenizer=big)
