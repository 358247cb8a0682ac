"""Distillation from published weights, and what it refuses of them."""

import typing
from pathlib import Path

import jax
import numpy as np
import pytest
from published import CLASSES, big_vision_arrays
from support import distill_config, final_params, run_command

from distill.config import ConfigError, resolve, to_dict
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.json_files import read_json
from distill.runs.distillation import DistillConfig
from distill.runs.storing import StoreTargetsConfig
from distill.runs.weights import WeightsConfig
from distill.train import metrics
from distill.train.workdir import Workdir, read_classes
from pipelines import distill_student, evaluate, store_targets
from teachers.pretrained import FAMILIES

EMBEDDING = dict(matching__losses__kl=0, matching__losses__embedding_cosine=1, model__num_classes=0)


def config_for(weights: Path, **overrides: object):
    """The digits distillation with published weights as its teacher; a student in colour."""
    common = dict(teacher__weights__path=weights, model__channels=3)
    return distill_config(Path("none"), **(common | overrides))


@pytest.fixture(scope="module")
def vit_npz(tmp_path_factory) -> Path:
    """A ViT of ten classes as vision_transformer publishes it."""
    path = tmp_path_factory.mktemp("npz") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls", classes=10))
    return path


def run(config, path: Path):
    distill_student.run(config, Workdir(path), overview=False)
    return metrics.read(path)


def huggingface(path: Path, kind: str, **config) -> Path:
    """A model that transformers draws and writes."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=8
    )
    name = kind.replace("ForImageClassification", "").replace("Model", "") + "Config"
    model = getattr(transformers, kind)(getattr(transformers, name)(**sizes, **config))
    model.save_pretrained(path)
    return path


def test_from_the_logits_of_a_vit_that_does_not_name_its_classes(tmp_path, capsys):
    weights = huggingface(
        tmp_path / "vit", "ViTForImageClassification", intermediate_size=32, num_labels=10
    )
    rows = run(config_for(weights), tmp_path / "run")
    assert rows[-1]["train/loss"] > 0
    assert "nothing says what the teacher calls its 10 classes" in capsys.readouterr().err
    summary = read_json(tmp_path / "run" / "summary.json")
    # The command of its own reads the teacher again.
    found = evaluate.run(tmp_path / "run")
    for name in ("test/accuracy", "test/agreement", "test/kl", "test/cka"):
        assert found[name] == pytest.approx(summary[name], abs=1e-5)


def test_from_the_embedding_of_dinov2(tmp_path):
    weights = huggingface(tmp_path / "dinov2", "Dinov2Model", mlp_ratio=2)
    rows = run(config_for(weights, **EMBEDDING, train__total_steps=20), tmp_path / "run")
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert "val/cka" in rows[-1]


@pytest.mark.slow
def test_a_replay_of_what_published_weights_said_is_the_live_run(vit_npz, tmp_path):
    config = config_for(vit_npz, teacher__dtype="float32")
    run(config, tmp_path / "live")
    stored = resolve(
        StoreTargetsConfig, to_dict(config) | {"store": {"dtype": "float32", "epochs": None}}
    )
    store = store_targets.run(stored, Workdir(tmp_path / "targets"))
    assert store.contents.about["teachers"]["teacher"]["source"] == str(vit_npz)
    tree = to_dict(config) | {"targets": str(tmp_path / "targets")}
    run(resolve(DistillConfig, tree), tmp_path / "replayed")
    live, replayed = (final_params(tmp_path / name) for name in ("live", "replayed"))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, live, replayed)))
    other = tmp_path / "other.npz"
    arrays = big_vision_arrays("original", "cls", classes=10)
    np.savez(other, **arrays | {"cls": arrays["cls"] + 1})
    tree = to_dict(config_for(other, targets=tmp_path / "targets"))
    with pytest.raises(UserError, match=r"not those of the teacher in .*other\.npz"):
        run(resolve(DistillConfig, tree), tmp_path / "refused")


@pytest.mark.slow
def test_a_teacher_of_other_classes_teaches_embeddings_only(tmp_path):
    weights = tmp_path / "vit.npz"
    np.savez(weights, **big_vision_arrays("original", "cls"))
    with pytest.raises(UserError, match=rf"vit\.npz has {CLASSES} classes and the student 10"):
        run(config_for(weights), tmp_path / "refused")
    rows = run(config_for(weights, **EMBEDDING), tmp_path / "run")
    assert "val/cka" in rows[-1]


def with_names(path, names):
    return huggingface(
        path, "ViTForImageClassification", intermediate_size=32, id2label=dict(enumerate(names))
    )


def test_a_teacher_that_calls_the_classes_otherwise_is_refused_unless_they_are_in_order(tmp_path):
    weights = huggingface(
        tmp_path / "vit",
        "ViTForImageClassification",
        intermediate_size=32,
        id2label={number: f"digit {number}" for number in range(10)},
    )
    with pytest.raises(UserError, match="that the teacher does not have: '0', '1'"):
        run(config_for(weights), tmp_path / "refused")
    run(config_for(weights, data__class_map="in_order"), tmp_path / "run")
    teacher = read_json(tmp_path / "run" / "teachers.json")["teacher"]
    assert teacher["order"] is None and teacher["classes"][0] == "digit 0"
    assert read_classes(tmp_path / "run") == tuple("0123456789")


def test_published_weights_are_evaluated_in_the_order_of_their_names(tmp_path):
    order = tuple(str((number + 1) % 10) for number in range(10))
    names = {"id2label": dict(enumerate(order))}
    sizes = dict(intermediate_size=32, num_labels=10)
    named = huggingface(tmp_path / "named", "ViTForImageClassification", **sizes | names)
    nameless = huggingface(tmp_path / "nameless", "ViTForImageClassification", **sizes)
    found, in_order, as_they_come = (
        evaluate.run(
            WeightsConfig(path=str(path)), {"": SplitConfig(source="digits", classes=classes)}
        )
        for path, classes in ((named, ()), (nameless, order), (nameless, ()))
    )
    assert found == in_order
    assert found["test/cross_entropy"] != as_they_come["test/cross_entropy"]


def test_the_features_of_published_weights_are_evaluated(vit_npz):
    flags = ["--source=digits", "--knn=5", "--split=validation"]
    done = run_command("evaluate", f"--weights={vit_npz}", *flags)
    first, row = done.stdout.splitlines()
    assert first == "240 images of digits, 10 classes; 1,197 images to learn from"
    # Random features of digits are worth more than guessing.
    assert row.startswith("knn/5") and float(row.split()[1]) > 0.3


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "give one of --workdir, of a run, and --weights"),
        (["--weights=a.npz", "--workdir=b"], "give one of --workdir, of a run, and --weights"),
        (["--weights=a.npz"], "published weights come without data; give --source"),
        (["--weights=a.npz", "--source=digits", "--best"], "--best is for --workdir"),
        (["--workdir=b", "--image_size=32"], "--image_size is for --weights"),
    ],
)
def test_what_is_evaluated_is_named_once(flags, message):
    done = run_command("evaluate", *flags)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_grey_student_of_a_teacher_in_colour_is_refused(vit_npz, tmp_path):
    with pytest.raises(UserError, match=r"3 channels and the student 1; set config\.model\.chan"):
        run(config_for(vit_npz, model__channels=1), tmp_path / "run")


def test_every_family_can_be_expected():
    (families,) = (
        typing.get_args(option)
        for option in typing.get_args(typing.get_type_hints(WeightsConfig)["family"])
        if typing.get_origin(option) is typing.Literal
    )
    assert families == FAMILIES


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match="do not exist"):
        run(config_for(tmp_path / "nowhere.safetensors"), tmp_path / "run")


@pytest.mark.parametrize(
    "overrides",
    [
        dict(teacher__weights="none"),
        dict(teacher__workdir="runs/teacher"),
        dict(teacher__step=3),
        dict(teacher__weights__family="resnet"),
    ],
)
def test_a_teacher_is_a_workdir_or_weights(vit_npz, overrides):
    tree = to_dict(config_for(vit_npz))
    with pytest.raises(ConfigError, match=r"config\.teacher"):
        flat = {key.replace("__", "."): str(value) for key, value in overrides.items()}
        resolve(DistillConfig, tree, flat)
