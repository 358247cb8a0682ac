"""The model card says what is so, and nothing else."""

import contextlib
import dataclasses
import shutil

import pytest
from support import exportable

from distill.evaluation_view import EvaluationView
from distill.export.about import describe
from distill.export.card import model_card
from distill.nn import ViTConfig
from distill.nn.fingerprint import fingerprint
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.runs.weights import describe_network
from distill.train.best import Best
from distill.train.workdir import Workdir, read_config
from students import vit

CHECKED = {
    "name": "it",
    "bytes": 1000,
    "difference": 1e-6,
    "agreement": 1.0,
    "accuracy": None,
    "milliseconds": {"1": 1.0, "32": 2.0},
}


@pytest.fixture(scope="module")
def student():
    return exportable()


def card(exported, form="stablehlo", /, **about) -> str:
    described = {
        "format": form,
        "dtype": "float32",
        "written": "2026-08-31",
        "jax": "0.10.2",
        "requires": {},
        "signature": None,
        "checked": [CHECKED],
    }
    return model_card(exported, described | {"about": about})


def section(text: str, name: str) -> str:
    return text.partition(f"\n## {name}\n\n")[2].partition("\n\n## ")[0].strip()


def line(text: str, name: str) -> str:
    (found,) = [one for one in text.splitlines() if one.startswith(f"- {name}: ")]
    return found.removeprefix(f"- {name}: ")


def test_an_unknown_lineage_is_not_called_none(student):
    assert section(card(student), "Where it comes from") == "Not recorded."
    trained_alone = card(student, teachers={}, start=None)
    assert section(trained_alone, "Where it comes from").startswith("Trained without teacher")


def test_teachers_are_told_as_far_as_they_are_known(student):
    fields = [field.name for field in dataclasses.fields(ViTConfig)]
    shape = ViTConfig(**{name: getattr(student.network.config, name) for name in fields})
    published = describe_network(vit.build(shape))
    teachers = {
        "one": {"source": "runs/a", "model": {"family": "vit", "variant": "B/16"}, "step": 40},
        "two": {"source": "b.npz", "model": published, "parameters": 1234567, "fingerprint": "ab"},
        "three": {"source": "runs/c"},
    }
    assert section(card(student, teachers=teachers), "Where it comes from").splitlines() == [
        "- teacher one: vit B/16, runs/a, step 40, fingerprint not recorded",
        "- teacher two: ViT of width 32 and depth 2, 1,234,567 parameters, b.npz, fingerprint `ab`",
        "- teacher three: unknown, runs/c, fingerprint not recorded",
    ]


def test_the_fingerprint_is_the_one_that_a_student_of_it_would_record(student):
    model = {"family": "vit", "variant": "mu/4"}
    found = line(card(student, model=model), "fingerprint")
    assert found == f"`{fingerprint(student.params, model)}`"


def test_the_front_matter_has_what_the_hub_knows(student):
    for form, library in {"hf": "transformers", "timm": "timm", "saved_model": None}.items():
        text = card(student, form, licence="Apache-2.0")
        front = text.split("---")[1].split("\n")
        assert 'license: "apache-2.0"' in front
        libraries = [one for one in front if one.startswith("library_name")]
        assert libraries == ([f"library_name: {library}"] if library else [])
        assert section(text, "Licence").startswith("Apache-2.0. ")


def test_values_of_the_recipe_are_for_people(student):
    recipe = {
        "learning_rate": 0.1 * 0.03 * 3,
        "crop_area": [0.05, 1.0],
        "weight_decay": [["kernel$", 0.0001], [".*", 0.0]],
        "flip": False,
        "frozen": [],
    }
    assert section(card(student, recipe=recipe), "Recipe").splitlines() == [
        "- learning_rate: 0.009",
        "- crop_area: 0.05, 1",
        "- weight_decay: `kernel$` 0.0001, `.*` 0",
        "- flip: no",
    ]


def test_metrics_say_what_they_were_measured_on(student):
    metrics = section(card(student, metrics={"val/kl": "0.1", "test/kl": "0.2"}), "Metrics")
    assert "At the end of its training:\n\n- val/kl: 0.1\n- test/kl: 0.2\n" in metrics
    assert "`val/`: the validation split; `test/`: the test split." in metrics
    assert "views/" not in metrics


@pytest.mark.parametrize("form", ["stablehlo", "hf"])
def test_preprocessing_is_said(form):
    grey = exportable(channels=1, view=EvaluationView(), mean=(0.4,), std=(0.25,))
    text = card(grey, form)
    said = line(text, "preprocessing")
    for part in (
        "grey; the central 12×12 pixels of the image with its shorter side made 13, bilinear",
        "(x/255 − mean)/std with mean 0.4 and std 0.25",
        "channels first" if form == "hf" else "uint8, 0 to 255, channels last",
    ):
        assert part in said
    assert ('image.convert("L")' in text) == (form == "hf")
    assert grey.preprocessing == {
        "mode": "L",
        "resize": "shortest",
        "filter": "bilinear",
        "crop": 0.875,
        "unseen": 0,
        "rounding": "down",
        "height": 12,
        "width": 12,
        "mean": [0.4],
        "std": [0.25],
    }
    colour = card(exportable(), form)
    assert "RGB; the central 12×12 pixels" in line(colour, "preprocessing")
    assert 'image.convert("L")' not in colour


def test_it_is_said_how_long_stablehlo_can_be_read(student):
    used = section(card(student), "How to use it")
    assert "Written on 2026-08-31 with jax 0.10.2." in used
    assert "until 2027-02-28 at most" in used
    assert "2027" not in card(student, "hf")


def test_a_student_without_classes_is_said_to_embed():
    text = card(exportable(num_classes=0), "hf")
    assert "`logits` is the embedding" in text
    assert "mean cosine of the embeddings" in text and "| 1.0000 |" in text
    assert "first class" not in text and "of a logit" not in text


@pytest.mark.slow
def test_the_metrics_of_the_best_weights_are_theirs(teacher_workdir, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(teacher_workdir, workdir)
    params = open_model(workdir, make_mesh(MeshConfig()), step=5).params
    # Not what the run ended with.
    with contextlib.closing(Best(workdir, "val/accuracy")) as best:
        best.offer(5, 0.98765, params)
    recorded, summary = read_config(workdir), Workdir(workdir).summary
    last, kept = (describe(workdir, recorded, best=which) for which in (False, True))
    assert (last["step"], last["weights"]) == (10, "last")
    assert last["metrics"]["val/accuracy"] == f"{summary['val/accuracy']:.4f}"
    assert (kept["step"], kept["weights"]) == (5, "best by val/accuracy")
    assert kept["metrics"] == {"val/accuracy": "0.9877"}

    text = card(exportable(), **kept)
    assert line(text, "weights") == "best by val/accuracy"
    assert "the best by val/accuracy, were kept:\n\n- val/accuracy: 0.9877" in text
    assert "end of its training" not in text and "test/" not in section(text, "Metrics")


@pytest.mark.slow
def test_a_runs_data_are_described(teacher_workdir):
    about = describe(teacher_workdir, read_config(teacher_workdir), best=False)
    evaluated = "digits, split validation (val/), split test (test/)"
    assert about["data"]["evaluated on"] == evaluated
    assert about["recipe"]["data.view.crop_area"] == [0.6, 1.0]
    assert about["teachers"] == {}


@pytest.mark.slow
def test_the_size_of_a_published_teacher_is_counted(student, teacher_workdir, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(teacher_workdir, workdir)
    published = {"source": "b.npz", "step": None, "model": describe_network(student.network)}
    Workdir(workdir).write_teachers({"teacher": published})
    found = describe(workdir, read_config(workdir), best=False)["teachers"]["teacher"]
    assert found["parameters"] == student.network.parameter_count()
    assert found["source"] == "b.npz" and "step" not in found
