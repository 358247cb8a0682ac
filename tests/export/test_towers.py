"""Pairs and their towers, exported: what transformers and other runtimes make of them."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest
from exports import runtimes_in_this_process
from published_pairs import IDS, saved_clip, saved_siglip, told_by
from support import REPOSITORY, run_command

from distill.data.prompts import TEMPLATES
from distill.data.tokens import open_tokenizer, train_tokenizer
from distill.errors import UserError
from distill.export import hf, hf_pairs
from distill.export.model import Kind
from distill.export.pairs import PairExportable
from distill.export.samples import text_samples
from distill.export.towers import open_tower
from distill.export.verify import Samples, Verifier
from distill.export.versions import check_format, export_version
from distill.inspect.path import tell
from distill.nn import Pair, PairNetwork, TextConfig
from distill.runs.weights import WeightsConfig
from pipelines import export
from students import vit
from teachers.pretrained import open_pair

LENGTH = 7


def with_vocabulary(path, family):
    """A vocabulary beside a pair, of as few tokens as its text tower has."""
    if family == "clip":
        pieces = [*map(chr, range(97, 123)), *(f"{chr(n)}</w>" for n in range(97, 118)), "ca"]
        vocab = {p: n for n, p in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
        (path / "vocab.json").write_text(json.dumps(vocab))
        (path / "merges.txt").write_text("#version: 0.2\nc a\n")
    else:
        train_tokenizer(["seven eight nine", *TEMPLATES], 45, str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """A small pair of SigLIP 2's with its tokenizer."""
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("siglip")
    saved_siglip(path)
    return with_vocabulary(path, "siglip2")


def opened(path, tower: Kind, family="siglip2", **choices):
    return open_tower(WeightsConfig(path=str(path), text_family=family), tower, **choices)


PAIRS = {
    "clip": lambda path: saved_clip(path, eos=49, act="gelu"),
    "legacy": lambda path: saved_clip(path, eos=2),
    "siglip2": saved_siglip,
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_pair_that_comes_back_is_the_same_to_the_bit_and_to_transformers(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    family = "siglip2" if kind == "siglip2" else "clip"
    source, written = tmp_path / "source", tmp_path / "export"
    source.mkdir()
    published = PAIRS[kind](source)
    with_vocabulary(source, family)
    exported = opened(source, "pair", family)
    hf.write(exported, written)
    before, after = open_pair(source, family=family), open_pair(written)
    assert after.family == family and after.view == before.view
    assert as_told(after.network.config) == as_told(before.network.config)
    jax.tree.map(np.testing.assert_array_equal, after.read(), before.read())
    model = transformers.AutoModel.from_pretrained(written).eval()
    images = np.random.default_rng(0).standard_normal((3, 48, 48, 3)).astype(np.float32)
    for found, told in zip(told_by(model, images), told_by(published, images), strict=True):
        np.testing.assert_array_equal(found, told)
    ours = open_tokenizer(str(written), family=family, length=LENGTH)
    assert ours.fingerprint == exported.tokenizer.fingerprint
    if family == "siglip2":
        texts = ["A photograph", "seven eight nine nine nine eight", ""]
        theirs = transformers.AutoTokenizer.from_pretrained(written)
        ids = theirs(texts, padding="max_length", truncation=True, max_length=LENGTH).input_ids
        np.testing.assert_array_equal(ids, ours(texts))


def as_told(config):
    """A pair's config, with mean and standard deviation said for each channel."""
    told = {name: np.broadcast_to(getattr(config, name), 3).tolist() for name in ("mean", "std")}
    return dataclasses.replace(config, image=dataclasses.replace(config.image, **told))


def pair_of(image=None, text=None, **choices):
    """A pair to export, whose every parameter matters."""
    tower = vit.configure("mu/4", image_size=12, depth=2, num_classes=0, **(image or {}))
    text = dict(vocab=50, length=LENGTH, width=24, depth=2, mlp_dim=40, heads=3) | (text or {})
    network = PairNetwork.of(tower.build(), TextConfig(**text), **choices)
    generator = np.random.default_rng(0)
    drawn = jax.tree.map(
        lambda x: 0.3 * generator.standard_normal(x.shape).astype(np.float32),
        network.abstract_params,
    )
    return network, drawn | {"temperature": np.log(np.float32(10))}


CLIP = dict(image=dict(head="cls", pre_norm=True), text=dict(causal=True, pool="eos", eos_id=49))
ADDED = dict(norm_bias=False, qkv_bias=False, position_embedding="sincos2d")


@pytest.mark.parametrize(
    "choices",
    [
        # Both as wide as embeddings are, without a projection.
        {"image": CLIP["image"] | ADDED, "text": CLIP["text"] | dict(width=32, heads=4)},
        {"image": ADDED, "text": dict(width=32, heads=4)},
    ],
    ids=["clip", "siglip"],
)
def test_what_a_layout_has_and_a_pair_has_not_does_nothing(choices, siglip, tmp_path):
    import transformers

    network, params = pair_of(**choices)
    tokenizer = opened(siglip, "pair").tokenizer
    exported = PairExportable(network=network, params=params, tokenizer=tokenizer)
    check_format("hf", exported)
    hf.write(exported, tmp_path / "export")
    model = transformers.AutoModel.from_pretrained(tmp_path / "export").eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(exported.function())(params, images, np.stack([IDS] * 3))
    ours, theirs, logits = told_by(model, np.asarray(network.prepare(images)))
    np.testing.assert_allclose(found["image_embedding"], ours, atol=2e-5)
    np.testing.assert_allclose(found["text_embedding"][0], theirs, atol=2e-5)
    np.testing.assert_allclose(found["logits"], logits, atol=2e-5)
    assert np.std(logits.numpy()) > 0.05


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"image": {"head": "gap"}}, "neither by head='gap'; --tower=image and --tower=text"),
        ({"image": {"qk_norm": True}}, r"SiglipModel, .* is without image.qk_norm=True"),
        ({"image": {"registers": 2}}, "without image.registers=2"),
        ({"image": {"pre_norm": True}}, "without image.pre_norm=True"),
        ({"text": {"causal": True, "pool": "eos"}}, r"causal=True, text.pool='eos' \(it has last"),
        ({"embed_dim": 24, "text": {}}, "without embed_dim=24 "),
        ({**CLIP, "bias": True}, r"CLIPModel, .* is without bias=True"),
        ({**CLIP, "image": {"head": "cls"}}, "without image.pre_norm=False"),
        ({**CLIP, "text": {"pool": "mean"}}, r"text.causal=False, text.pool='mean' \(it has eos"),
        ({**CLIP, "text": CLIP["text"] | {"embed_dim": 32}}, "without text.head_bias=True"),
        ({**CLIP, "text": CLIP["text"] | {"eos_id": 2}}, "means the largest id"),
    ],
)
def test_what_a_layout_cannot_hold_is_named(choices, message):
    width = {} if choices.get("embed_dim") else {"width": 32, "heads": 4}
    text = dict(vocab=50, length=LENGTH, width=24, depth=1, mlp_dim=40, heads=3) | width
    text |= choices.get("text", {})
    image = vit.configure(
        "mu/4", image_size=12, depth=1, num_classes=0, **choices.get("image", {})
    ).build()
    others = {key: value for key, value in choices.items() if key not in ("image", "text")}
    network = PairNetwork.of(image, TextConfig(**text), **others)
    assert re.search(message, hf_pairs.obstacle(network) or "")


def test_a_tower_that_another_format_holds_is_refused_by_name(siglip):
    with pytest.raises(UserError, match=r"holds models of images, and this is a text tower"):
        check_format("tflite", opened(siglip, "text"))
    with pytest.raises(UserError, match=r"Those that can, in float32: hf$"):
        check_format("onnx", opened(siglip, "pair"))


def documented_ids(version):
    """What docs/image_text.md has for whoever has an export alone."""
    blocks = (REPOSITORY / "docs/image_text.md").read_text("utf-8").split("```python\n")
    (lines,) = (one.partition("session =")[0] for one in blocks if "def ids(" in one)
    defined = {}
    exec(lines.replace("exports/text/onnx/1", str(version)), defined)
    return defined["ids"]


def test_the_command_exports_a_text_tower_with_its_vocabulary(siglip, tmp_path):
    with runtimes_in_this_process():
        done = run_command(
            *("export", f"--weights={siglip}", "--tower=text", "--format=stablehlo"),
            f"--output={tmp_path}",
        )
    assert done.returncode == 0, done.stderr
    assert "compared with JAX on 130 texts of 16 class names" in done.stdout
    version = tmp_path / "stablehlo" / "1"
    described = json.loads((version / "export.json").read_text())
    assert described["signature"] == {
        "inputs": {"ids": ["int32", [None, LENGTH]]},
        "outputs": {"embedding": ["float32", [None, 32]]},
    }
    rule = described["preprocessing"]
    assert (rule["family"], rule["end"], rule["padding"]) == ("siglip", 1, 1)
    assert not (version / "class_names.json").exists()
    (name,) = rule["vocabulary"]
    assert (version / name).read_bytes() == (siglip / "tokenizer.json").read_bytes()
    card = (version / "MODEL_CARD.md").read_text("utf-8")
    for part in (
        "- model: text tower of width 24 and depth 3",
        "- texts: small letters; then its tokens and 1, the mark of its end. That is 7 in all",
        "- vocabulary: tokenizer.json beside this card (family siglip, ",
        "| input | `ids` | int32 | [batch, 7] |",
    ):
        assert part in card
    texts = ["A PHOTOGRAPH of seven eight nine", "nine", ""]
    tokenizer = open_tokenizer(str(version), family="siglip", length=LENGTH)
    np.testing.assert_array_equal(documented_ids(version)(texts), tokenizer(texts))
    assert "ids = np.zeros((2, 7), np.int32)" in (version / "README.md").read_text()
    assert "text tower of width 24 and depth 3" in tell(version)
    call = jax.export.deserialize(bytearray((version / "model.jax_export").read_bytes())).call
    pair = open_pair(siglip)
    expected = jax.jit(functools.partial(pair.network.apply, method=Pair.embed_texts))(
        pair.read(), IDS
    )
    np.testing.assert_allclose(call(IDS)["embedding"], expected, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(call(IDS[:1])["embedding"]), 1, atol=1e-5)


def test_an_image_tower_is_exported_as_texts_are_compared_with_it(tmp_path):
    pytest.importorskip("transformers")
    saved_clip(tmp_path / "clip")
    model = opened(tmp_path / "clip", "image", "clip")
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    found = jax.jit(model.function())(model.params, images)
    pair = open_pair(tmp_path / "clip")
    prepared = pair.network.prepare(images)
    embed = jax.jit(functools.partial(pair.network.apply, method=Pair.embed_images))
    expected = embed(pair.read(), prepared)
    assert found.keys() == {"embedding"} and expected.shape == (3, 16)
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-6)
    assert "text" not in model.params and "temperature" not in model.params
    with pytest.raises(UserError, match="not projected and of length 1"):
        check_format("hf", model)


def test_a_whole_pair_is_checked_in_transformers(siglip, tmp_path):
    with runtimes_in_this_process():
        done = run_command(
            *("export", f"--weights={siglip}", "--tower=pair", "--format=hf", "--images=20"),
            *("--source=digits", "--split=test", f"--output={tmp_path}"),
        )
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "hf" / "1" / "MODEL_CARD.md").read_text("utf-8")
    assert "pipeline_tag: zero-shot-image-classification" in card
    assert "ViT of width 32 and depth 2 and text tower of width 24" in card
    assert "a pair of an image tower and a text tower" in tell(tmp_path / "hf" / "1")


@pytest.mark.slow
def test_a_pair_that_transformers_computes_otherwise_is_refused(siglip, tmp_path, monkeypatch):
    pair = opened(siglip, "pair")
    samples = text_samples(pair.tokenizer, 50).inputs["ids"][:6].reshape(3, 2, LENGTH)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    verifier = Verifier(pair, Samples({"images": images, "ids": samples}))
    wrong = pair.params | {"temperature": pair.params["temperature"] + 0.01}
    with runtimes_in_this_process(), pytest.raises(UserError, match="logits of the Hugging Face"):
        artefact = hf.write(dataclasses.replace(pair, params=wrong), tmp_path / "wrong")
        verifier(artefact)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved_model", "stablehlo", "onnx"])
@pytest.mark.parametrize("family", ["clip", "siglip2"])
def test_a_text_tower_runs_without_this_project(form, family, tmp_path):
    pytest.importorskip({"saved_model": "tensorflow", "onnx": "jax2onnx"}.get(form, "jax"))
    (saved_clip if family == "clip" else saved_siglip)(tmp_path / "weights")
    with_vocabulary(tmp_path / "weights", family)
    model = opened(tmp_path / "weights", "text", family)
    verifier = Verifier(model, text_samples(model.tokenizer, 50))
    version = export_version(model, form, tmp_path / "out", verifier)
    assert version.checked[0].difference <= 2e-5
    assert all((version.path / name).exists() for name in model.preprocessing["vocabulary"])


def test_flags_that_do_not_go_together_are_refused(siglip, teacher_workdir, tmp_path):
    weights = WeightsConfig(path=str(siglip))
    run = dict(output=tmp_path / "out", formats=("stablehlo",))
    with pytest.raises(UserError, match=r"--tower is of pairs, and the model in .* is none"):
        export.run(teacher_workdir, tower="text", **run)
    with pytest.raises(UserError, match="--source names images"):
        export.run(weights, tower="text", compared_on=export.SplitConfig(source="digits"), **run)
    with pytest.raises(UserError, match=r"give --output$"):
        export.run(weights, tower="text", formats=("stablehlo",))
    with pytest.raises(UserError, match="--image_size is of images"):
        export.run(dataclasses.replace(weights, image_size=32), tower="text", **run)
    asked = ("--tower=text", "--zeroshot_classes=a,b", f"--output={tmp_path / 'out'}")
    done = run_command("export", f"--weights={siglip}", *asked)
    assert done.returncode == 2 and "give one of them" in done.stderr
    assert not (tmp_path / "out").exists()
