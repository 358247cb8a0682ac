"""Published pairs as classifiers whose classes are texts, in every command that takes weights."""

import json

import numpy as np
import pytest
from captions import CAPTIONS, in_folder
from published_pairs import saved_clip, saved_siglip
from support import run_command

from distill.analysis.prediction_files import read_predictions
from distill.config import resolve, to_dict
from distill.data import DataConfig
from distill.data.prompts import TEMPLATES
from distill.data.tokens import train_tokenizer
from distill.errors import UserError
from distill.evaluate.features import split_loader
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import ModelSource, describe_model
from distill.runs.start import StartConfig
from distill.runs.weights import WeightsConfig, describe_network, described_network
from distill.runs.zero_shot import ZeroShotConfig
from teachers.pretrained import open_pair

# In the order of the digits; some with several names.
NAMES = [
    "zero, nought",
    "one",
    "two",
    "three",
    "four, fo'ur",
    *("five six seven eight".split()),
    "nine",
]
LENGTH = 7
DIGITS = [f"--config.evals.digits.{key}" for key in ("source=digits", "split=test")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small pair of SigLIP's with its tokenizer, and transformers' model of it."""
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("siglip")
    model = saved_siglip(path)
    train_tokenizer([" ".join(NAMES), *TEMPLATES], 45, str(path / "tokenizer.json"))
    return path, model


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / "names.json"
    path.write_text(json.dumps({str(n): some.split(", ") for n, some in enumerate(NAMES)}))
    return path


def told(path, model, templates):
    """What transformers makes of the test digits: logits [360, 10], and the labels."""
    import torch
    import transformers

    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    vectors = []
    for some in NAMES:
        texts = [t.replace("{}", name) for name in some.split(", ") for t in templates]
        ids = []
        for text in texts:
            # Without punctuation; the end's mark is 1, and so is padding.
            found = fast(text.replace("'", ""), add_special_tokens=False).input_ids
            ids.append([*found[: LENGTH - 1], *[1] * LENGTH][:LENGTH])
        with torch.no_grad():
            told = model.text_model(input_ids=torch.tensor(ids)).pooler_output
            told = torch.nn.functional.normalize(told, dim=-1).mean(0)
        vectors.append(torch.nn.functional.normalize(told, dim=-1))
    data = DataConfig(source="digits", threads=1)
    images = data.open_evaluation("test", channels=3)
    published = open_pair(path)
    mesh = make_mesh(MeshConfig())
    batches = split_loader(images, data, mesh, size=48, batch_size=360, view=published.view)
    (batch,) = batches
    pixels = np.asarray(published.network.prepare(batch["image"])).transpose(0, 3, 1, 2)
    with torch.no_grad():
        found = model.vision_model(torch.tensor(pixels))
        found = torch.nn.functional.normalize(found.pooler_output, dim=-1)
        logits = found @ torch.stack(vectors).T * model.logit_scale.exp() + model.logit_bias
    return logits.numpy(), np.asarray(batch["label"])


@pytest.mark.parametrize("templates", ["short", "{}"])
def test_a_pair_is_as_accurate_as_transformers_makes_it(weights, names, tmp_path, templates):
    path, model = weights
    flags = (f"--zeroshot_classes={names}", f"--zeroshot_templates={templates}")
    done = run_command(
        *("evaluate", f"--weights={path}", "--source=digits", "--split=test", *flags),
        f"--output={tmp_path / 'lines'}",
    )
    assert done.returncode == 0, done.stderr
    said = f"{12 * (8 if templates == 'short' else 1)} texts, templates {templates}, small letters"
    assert f"zero-shot: 10 classes by {said}" in done.stdout + done.stderr
    (line,) = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    logits, labels = told(path, model, TEMPLATES if templates == "short" else ["{}"])
    chosen = logits.argmax(1)
    assert len(np.unique(chosen)) > 2
    assert line["metrics"]["test/accuracy"] == pytest.approx(np.mean(chosen == labels), abs=3e-3)
    about = line["zeroshot"]
    assert about["tokenizer"]["family"] == "siglip" and about["templates"] == templates
    output = tmp_path / "p.npz"
    predicted = run_command(
        *("predict", f"--weights={path}", "--source=digits", "--split=test", *flags),
        f"--output={output}",
    )
    assert predicted.returncode == 0, predicted.stderr
    found = read_predictions(output)
    np.testing.assert_allclose(found.scores, logits, rtol=0, atol=5e-3)
    assert found.class_names == tuple("0123456789")
    assert found.about["zeroshot"] == about


def test_every_kind_of_evaluation_takes_it(weights, names, tmp_path):
    path, _ = weights
    done = run_command(
        *("evaluate", f"--weights={path}", f"--zeroshot_classes={names}", *DIGITS),
        *("--config.evals.digits.kind=calibration", "--config.evals.near.kind=transfer"),
        *("--config.evals.near.sources=('digits',)", "--config.evals.near.neighbours=(3,)"),
        *("--config.evals.texts.kind=zeroshot", "--config.evals.texts.source=digits"),
        *("--config.evals.texts.split=test", f"--config.evals.texts.class_names={names}"),
        *("--config.evals.again.kind=split", "--config.evals.again.source=digits"),
        *("--config.evals.again.split=test", f"--output={tmp_path / 'lines'}"),
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    found = {line["name"]: line["metrics"] for line in lines}
    assert found.keys() == {"digits", "near", "again", "texts"}
    # As a classifier, and as a pair whose class vectors are computed anew.
    for figure in ("accuracy", "top5_accuracy"):
        ours, theirs = found["again"][f"again/{figure}"], found["texts"][f"texts/{figure}"]
        assert ours == pytest.approx(theirs, abs=3e-3)
    assert found["digits"]["digits/ece"] > 0


def test_a_comparison_takes_pairs_beside_other_models(weights, names, teacher_workdir, tmp_path):
    path, _ = weights
    done = run_command(
        *("compare", f"pair={path}", f"run={teacher_workdir}", f"--output={tmp_path}"),
        *(f"--zeroshot_classes={names}", "--config.evals.digits.kind=split", *DIGITS),
    )
    assert done.returncode == 0, done.stderr
    pair, run = json.loads((tmp_path / "compare.json").read_text())["models"]
    assert pair["evaluations"]["digits"]["zeroshot"]["classes"] == 10
    assert "zeroshot" not in run["evaluations"]["digits"]
    again = run_command(
        *("compare", f"pair={path}", f"run={teacher_workdir}", f"--output={tmp_path}"),
        *(f"--zeroshot_classes={names}", "--config.evals.digits.kind=split", *DIGITS),
    )
    assert "as evaluated before" in again.stdout + again.stderr


def test_an_export_is_an_ordinary_classifier_whose_card_names_its_texts(weights, names, tmp_path):
    asked = (
        *("export", f"--weights={weights[0]}", f"--zeroshot_classes={names}"),
        *("--zeroshot_templates={}", "--source=digits", "--split=test", f"--output={tmp_path}"),
    )
    done = run_command(*asked, "--format=stablehlo")
    assert done.returncode == 0, done.stderr
    card = next(tmp_path.rglob("MODEL_CARD.md")).read_text("utf-8")
    assert "zero-shot: 10 classes by 12 texts, templates {}" in card
    assert "width 32, depth 2" in card
    plain = run_command(*asked, "--format=hf")
    assert plain.returncode == 2 and "without classes that are texts" in plain.stderr


def test_images_are_found_by_captions(weights, tmp_path):
    folder = in_folder(tmp_path / "images")
    (folder / "5.png").unlink()
    done = run_command(
        *("evaluate", f"--weights={weights[0]}", "--config.evals.coco.kind=retrieval"),
        *(f"--config.evals.coco.source=images:{folder}", "--config.evals.coco.split=train"),
        f"--output={tmp_path / 'lines'}",
    )
    assert done.returncode == 0, done.stderr
    assert "5 images and" in done.stdout and "coco/image_to_text@1 " in done.stdout
    (line,) = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    texts = sum(map(len, CAPTIONS))
    assert line["details"]["counts"]["text_to_image@10"] == [texts, texts]


def test_a_pair_of_clips_has_classes_by_name_alone(tmp_path):
    """Its text tower has another vocabulary, whose marks are its last two."""
    pytest.importorskip("ftfy")
    saved_clip(tmp_path)
    pieces = [*map(chr, range(97, 123)), *(f"{chr(n)}</w>" for n in range(97, 118)), "ca"]
    vocab = {piece: n for n, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nc a\n")
    config = WeightsConfig(
        path=str(tmp_path), zeroshot=ZeroShotConfig(classes=("cab", "bed"), templates="{}")
    )
    found = describe_model(config)
    assert found.class_names == ("cab", "bed")
    assert found.published.about["canonical"] is False
    assert found.network.config.embedding_width == 16 and found.network.config.width == 32
    vectors = found.published.read()["class_vectors"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Of stored targets and exports, the network is built again of what is recorded.
    again = described_network(json.loads(json.dumps(describe_network(found.network))))
    assert again.abstract_params == found.network.abstract_params


def test_what_was_asked_is_recorded_and_read_again(weights, names):
    config = WeightsConfig(path=str(weights[0]), zeroshot=ZeroShotConfig(class_names=str(names)))
    source = ModelSource(weights=config)
    assert resolve(ModelSource, to_dict(source)) == source


def opened(path, tokenizer=None, **zeroshot):
    config = ZeroShotConfig(**dict(classes=("1", "2")) | zeroshot)
    return describe_model(WeightsConfig(path=str(path), zeroshot=config, tokenizer=tokenizer))


def test_what_does_not_fit_is_said(weights, names, tmp_path, teacher_workdir):
    path, _ = weights
    with pytest.raises(ValueError, match="class_names, a file, or classes has to name"):
        ZeroShotConfig()
    with pytest.raises(ValueError, match="a run starts from a pair's image tower"):
        StartConfig(weights=WeightsConfig(path="x", zeroshot=ZeroShotConfig(classes=("a",))))
    with pytest.raises(UserError, match=r"lacks 1 of the 11 classes"):
        opened(path, classes=(*"0123456789", "ten"), class_names=str(names))
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((path / name).read_bytes())
    with pytest.raises(UserError, match=r"Give weights.tokenizer \(--tokenizer\)"):
        opened(tmp_path)
    opened(tmp_path, str(path / "tokenizer.json"))
    with pytest.raises(UserError, match="holds a text tower of the family siglip, not clip"):
        describe_model(
            WeightsConfig(
                path=str(path), text_family="clip", zeroshot=ZeroShotConfig(classes=("a",))
            )
        )
    empty = tmp_path / "none.txt"
    empty.write_text("\n")
    with pytest.raises(UserError, match="names no classes"):
        opened(path, classes=(), class_names=str(empty))
    empty.write_text("a photo\n")
    with pytest.raises(UserError, match=r"has no \{\}"):
        opened(path, templates=str(empty))
    flags = ("--source=digits", "--split=test")
    done = run_command("evaluate", f"--weights={path}", "--zeroshot_templates={}", *flags)
    assert done.returncode == 2 and "is for --zeroshot_classes" in done.stderr
    run = f"--workdir={teacher_workdir}"
    done = run_command("evaluate", run, "--zeroshot_classes=a,b", *flags)
    assert done.returncode == 2 and "is no pair" in done.stderr
    done = run_command("evaluate", run, "--tokenizer=t.json")
    assert done.returncode == 2 and "goes with --zeroshot_classes" in done.stderr
    done = run_command("evaluate", f"--weights={path}", "--zeroshot_classes=a,,b", *flags)
    assert done.returncode == 2 and "expected names such as cat,dog" in done.stderr


def test_a_tower_alone_is_no_pair(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=30)
    config = transformers.SiglipVisionConfig(**sizes, image_size=16, patch_size=8)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no text tower that is known"):
        opened(tmp_path)
