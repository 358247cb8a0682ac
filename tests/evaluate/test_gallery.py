"""What is kept of held-out images is what the models say, and changes nothing of the run."""

import base64
import io
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from pages import Page
from PIL import Image
from sklearn.decomposition import PCA
from support import TIMINGS, distill_config, pretrain_config

from distill.data import open_source
from distill.evaluate import gallery
from distill.evaluate.gallery import SHOWN, SIDE, Gallery, Said, picture, selections
from distill.parallel import MeshConfig, make_mesh
from distill.report.run import write_run_report
from distill.runs.opened import open_model
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain

COUNT = 40


@pytest.fixture(scope="module")
def student(teacher_workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("student")
    config = distill_config(teacher_workdir, train__example_images=COUNT)
    distill_student.run(config, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def kept(student):
    return json.loads((student / "examples.json").read_text())


@pytest.fixture(scope="module")
def expected(student, teacher_workdir):
    """Logits, embeddings and labels of the same images, and the images, in float64."""
    source = open_source("digits", "test", channels=1)
    places = np.arange(COUNT) * len(source) // COUNT
    examples = [source.read(int(one)) for one in places]
    images = np.stack([np.asarray(one["image"]) for one in examples])
    found = {"label": np.array([one["label"] for one in examples]), "image": images}
    mesh = make_mesh(MeshConfig())
    for name, path in {"student": student, "teacher": teacher_workdir}.items():
        model = open_model(path, mesh)
        out = model.network.apply(model.params, model.network.prepare(images))
        found[name] = np.asarray(out.logits, np.float64), np.asarray(out.embedding, np.float64)
    return found


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_answers_are_the_most_probable_classes(kept, expected):
    assert kept["label"] == expected["label"].tolist()
    for said, name in ((kept, "student"), (kept["together"], "teacher")):
        shares = softmax(expected[name][0])
        best = np.argsort(-shares, axis=1)[:, :3]
        np.testing.assert_array_equal(said["answers"], best)
        known = np.take_along_axis(shares, best, axis=1)
        np.testing.assert_allclose(said["probabilities"], known, rtol=2e-3, atol=1e-6)
    assert kept["teachers"]["teacher"]["answers"] == kept["together"]["answers"]


def test_the_divergence_is_the_students_from_the_teacher(kept, expected):
    ours, theirs = softmax(expected["student"][0]), softmax(expected["teacher"][0])
    divergence = np.sum(theirs * np.log(theirs / ours), axis=1)
    np.testing.assert_allclose(kept["kl"], divergence, rtol=5e-3, atol=1e-6)
    largest = np.sort(divergence)[::-1][:SHOWN]
    np.testing.assert_allclose(divergence[kept["differ"]], largest, rtol=1e-3, atol=3e-7)


def test_mistakes_are_the_wrong_answers_that_are_surest(kept, expected):
    shares = softmax(expected["student"][0])
    wrong = np.flatnonzero(shares.argmax(axis=1) != expected["label"])
    assert len(wrong) and {*kept["mistakes"]} <= {*wrong.tolist()}
    surest = np.sort(shares.max(axis=1)[wrong])[::-1][:SHOWN]
    np.testing.assert_allclose(shares.max(axis=1)[kept["mistakes"]], surest, rtol=1e-5)


def test_the_map_has_the_principal_components(kept, expected):
    """Up to a turn and a mirror: distances are the same."""

    def distances(points):
        points = np.asarray(points)
        return np.linalg.norm(points[:, None] - points, axis=-1)

    for found, name in ((kept["map"], "student"), (kept["teachers"]["teacher"]["map"], "teacher")):
        components = PCA(2, svd_solver="full").fit_transform(expected[name][1])
        np.testing.assert_allclose(distances(found), distances(components), rtol=0.02, atol=1e-3)


def test_pictures_are_the_images(kept, expected):
    assert {int(one) for one in kept["pictures"]} == {
        place for name in ("samples", "mistakes", "differ") for place in kept[name]
    }
    for place, url in kept["pictures"].items():
        head, _, data = url.partition(",")
        assert head == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        np.testing.assert_array_equal(pixels, expected["image"][int(place)][..., 0])


def test_sizes_and_speeds_are_those_of_the_networks(kept, teacher_workdir):
    parameters = json.loads((teacher_workdir / "summary.json").read_text())["parameters"]
    assert kept["teachers"]["teacher"]["parameters"] == parameters
    assert kept["images_per_second"] > 0
    assert kept["teachers"]["teacher"]["images_per_second"] > 0


def test_the_page_is_written_again_without_the_model(student, tmp_path):
    path = tmp_path / "moved"
    shutil.copytree(student, path, ignore=shutil.ignore_patterns("checkpoints"))
    first = (path / "report.html").read_text()
    page = Page(write_run_report(path).read_text())
    assert "Most confident mistakes" in page.texts and "Map of the embeddings" in page.texts
    assert len(first) > 50_000


def test_a_run_has_its_examples_and_is_otherwise_the_same(teacher_workdir, tmp_path):
    pretrain.run(pretrain_config(train__example_images=5), Workdir(tmp_path), overview=False)
    found = json.loads((tmp_path / "examples.json").read_text())
    assert (found["kl"], found["together"], found["teachers"]) == (None, None, {})
    assert len(found["label"]) == 5 and len(found["samples"]) == 5
    assert not (teacher_workdir / "examples.json").exists()
    logged = [
        [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]
        for rows in map(metrics.read, (tmp_path, teacher_workdir))
    ]
    assert logged[0] == logged[1]
    mesh = make_mesh(MeshConfig())
    params = [open_model(path, mesh).params for path in (tmp_path, teacher_workdir)]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *params)))


def test_what_goes_wrong_is_said_and_costs_no_run(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gallery, "write_json", fail)
    config = pretrain_config(train__example_images=5)
    pretrain.run(config, Workdir(tmp_path), overview=False)
    assert "no examples" in capsys.readouterr().err
    assert (tmp_path / "summary.json").exists() and (tmp_path / "report.html").exists()


def test_what_is_not_finite_is_said_and_not_kept(tmp_path, monkeypatch, capsys):
    asked = {"label": np.zeros(3, int), "kl": np.array([0.0, np.nan, 1.0])}
    monkeypatch.setattr(Gallery, "_ask", lambda *_: asked)
    images = open_source("digits", "test", channels=1)
    made: Any = dict(workdir=tmp_path, subject=None, images=images, split="test", most=3)
    Gallery(**made)(None, None)
    assert "not finite" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_images_without_labels_and_models_without_classes_make_no_mistakes():
    said = Said(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]]), np.zeros((3, 2)))
    unknown = selections(np.array([-1, -1, -1]), said, np.array([0.1, 0.3, 0.2]))
    assert unknown == {"samples": [0, 2, 1], "mistakes": [], "differ": [1, 2, 0]}
    label = np.array([0, 1, 1])
    assert selections(label, said, None)["mistakes"] == [0, 1]
    none = said._replace(classes=np.zeros((3, 0)), probabilities=np.zeros((3, 0)))
    assert selections(label, none, None)["mistakes"] == []


@pytest.mark.parametrize(
    ("shape", "size", "kind"),
    [
        ((8, 8, 1), (8, 8), "png"),
        ((64, 64, 3), (64, 64), "jpeg"),
        ((224, 224, 3), (SIDE, SIDE), "jpeg"),
        ((224, 224, 4), (SIDE, SIDE), "jpeg"),
    ],
)
def test_pictures_are_small(shape, size, kind):
    url = picture(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    head, _, data = url.partition(",")
    assert head == f"data:image/{kind};base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == size
