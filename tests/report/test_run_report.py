"""The page of a run stands alone, and shows what the run left."""

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from pages import Page
from PIL import Image
from run_pages import HOSTILE, some_examples, write_page

from distill.evaluate.gallery import picture
from distill.report.headline import headline
from distill.report.run import refresh_run_report, write_run_report, write_students_report
from distill.runs.evaluated import FILE
from distill.train import metrics


@pytest.fixture
def workdir(teacher_workdir, tmp_path):
    """A finished run; others may have evaluated the one they share."""
    path = tmp_path / "teacher"
    shutil.copytree(teacher_workdir, path, ignore=shutil.ignore_patterns(FILE, "checkpoints"))
    return path


def page_with(workdir, content):
    return Page(write_page(workdir, content).read_text())


def headings(page):
    """Of the sections, in order."""
    return [text for text in page.texts if text in SECTIONS]


SECTIONS = (
    "Learning curves",
    "Examples",
    "Most confident mistakes",
    "Where student and teacher differ most",
    "Which classes are taken for which",
    "Accuracy of each class",
    "Calibration",
    "Map of the embeddings",
)


def test_the_curves_are_those_of_the_metrics(workdir):
    page = Page(write_run_report(workdir).read_text())
    assert not page.all("img")
    rows = metrics.read(workdir)
    drawn = {
        figure["series"][0]["name"]: figure for figure in page.data if figure["kind"] == "lines"
    }
    steps, losses = metrics.series(rows, "train/loss")
    assert any(
        one["x"] == steps.tolist() and np.allclose(one["series"][0]["y"], losses, rtol=1e-4)
        for one in page.data
    )
    assert "training" in drawn
    accuracy = next(one for one in page.data if len(one.get("series", ())) == 2)
    assert [one["name"] for one in accuracy["series"]] == ["training", "validation"]


def test_names_from_files_are_text_everywhere(workdir):
    page = page_with(workdir, some_examples())
    assert {*SECTIONS} <= {*page.texts}
    # The script that reads charts out is the only one.
    assert len(page.scripts) == 1 and "alert" not in page.scripts[0]
    assert all(one["src"].startswith("data:image/") for one in page.all("img"))
    assert any(HOSTILE[0] in text for text in page.texts)
    assert any(HOSTILE[1] in (one["alt"] or "") for one in page.all("img"))


def test_the_page_forbids_the_network_and_other_scripts(workdir):
    page = page_with(workdir, some_examples())
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "connect-src" not in policy and "unsafe-eval" not in policy
    (allowed,) = re.findall(r"script-src ([^;]*);", policy)
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert allowed == f"'sha256-{digest}'"


def test_a_page_of_many_images_stays_small(workdir):
    rng = np.random.default_rng(0)
    # Shapes, and noise as of a camera: about as hard to compress as photographs.
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((256, 256))
    pixels = np.asarray(small) + rng.normal(scale=20, size=(256, 256, 3))
    picture_of = picture(np.clip(pixels, 0, 255).astype(np.uint8))
    assert picture_of.startswith("data:image/jpeg;base64,")
    names = [f"class number {n}" for n in range(1000)]
    content = some_examples(2000, names, picture=picture_of)
    content["mapped"] = content["mapped"][:1000]
    content["map"] = content["teachers"]["teacher"]["map"] = content["map"][:1000]
    page_with(workdir, content)
    assert (workdir / "report.html").stat().st_size < 600_000


def test_many_classes_show_the_pairs_that_are_confused_most(workdir):
    content = some_examples(600, [f"class {n}" for n in range(30)])
    page = page_with(workdir, content)
    assert not [one for one in page.data if one["kind"] == "cells"]
    pairs = {}
    for label, (first, *_) in zip(content["label"], content["answers"], strict=True):
        if label != first:
            pairs[label, first] = pairs.get((label, first), 0) + 1
    html = (workdir / "report.html").read_text()
    table = html.partition("images of the class")[2].partition("</table>")[0]
    rows = re.findall(r"<tr><td>class (\d+)</td><td>class (\d+)</td><td>(\d+)</td>", table)
    assert [int(times) for *_, times in rows] == sorted(pairs.values(), reverse=True)[: len(rows)]
    assert all(pairs[int(a), int(b)] == int(times) for a, b, times in rows)


def test_the_matrix_and_the_bars_count_the_answers(workdir):
    content = some_examples(200)
    page = page_with(workdir, content)
    label, first = np.array(content["label"]), np.array([one[0] for one in content["answers"]])
    (cells,) = [one for one in page.data if one["kind"] == "cells"]
    assert (
        f"true {HOSTILE[0]}, answered {HOSTILE[1]}: {np.sum((label == 0) & (first == 1))}"
        in (cells["labels"])
    )
    (bars,) = [one for one in page.data if one["kind"] == "bars"]
    shares = sorted(np.mean(first[label == n] == n) for n in range(4))
    drawn = [float(text.rpartition(" ")[2].rstrip("%")) for text in bars["labels"]]
    np.testing.assert_allclose(drawn, np.multiply(shares, 100), atol=0.06)


def test_sections_that_would_say_nothing_are_left_out(workdir):
    alone = headings(page_with(workdir, some_examples(teacher=False)))
    assert "Where student and teacher differ most" not in alone and "Calibration" in alone
    unlabelled = some_examples() | {"labelled": False, "label": [-1] * 40, "mistakes": []}
    assert {*headings(page_with(workdir, unlabelled))} == {
        "Learning curves",
        "Examples",
        "Where student and teacher differ most",
        "Map of the embeddings",
    }
    embeds = some_examples(teacher=False) | {"answers": None, "probabilities": None}
    assert {*headings(page_with(workdir, embeds))} == {"Learning curves", "Map of the embeddings"}


def test_a_student_without_classes_is_judged_by_its_embeddings():
    summary = {"steps": 3, "parameters": 1000, "val/loss": 0.5, "val/cka": 0.91234}
    page = headline(summary, [], None)
    assert "Likeness of embeddings" in page and "0.912" in page and "val/loss" not in page
    labelled = headline(summary | {"val/accuracy": 0.5}, [], None)
    assert "Likeness" not in labelled and "50.00%" in labelled


@pytest.mark.parametrize("content", ["{", "[]", '{"label": []}'])
def test_examples_that_cannot_be_read_are_said_and_left_out(workdir, content, capsys):
    (workdir / "examples.json").write_text(content)
    page = Page(write_run_report(workdir).read_text())
    assert {*headings(page)} == {"Learning curves"}
    assert "examples.json" in capsys.readouterr().err


def test_what_is_evaluated_of_a_finished_run_is_in_its_report(workdir):
    line = {
        "name": "dull",
        "config": {"kind": "split"},
        "metrics": {"dull/accuracy": 0.25},
        "time": "2026-01-02T03:04:05+00:00",
        "step": 7,
    }
    later = {**line, "metrics": {"dull/accuracy": 0.75}}
    (workdir / FILE).write_text("".join(json.dumps(one) + "\n" for one in (line, later)))
    refresh_run_report(workdir)
    page = (workdir / "report.html").read_text()
    assert "Evaluated: dull" in page and "2026-01-02T03:04:05+00:00, step 7" in page
    assert "<td>0.7500</td>" in page and "<td>0.2500</td>" not in page


def test_a_directory_without_a_report_gets_none(tmp_path):
    refresh_run_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_students_stand_beside_each_other(workdir, tmp_path):
    for name in ("small", "large"):
        shutil.copytree(workdir, tmp_path / name)
    (tmp_path / "small" / "examples.json").write_text(json.dumps(some_examples()))
    page = Page(write_students_report(tmp_path, ["small", "large"]).read_text())
    assert [one["href"] for one in page.all("a")] == ["small/report.html", "large/report.html"]
    (loss,) = [one for one in page.data if len(one["series"]) == 2 and not one["percent"]]
    assert [one["name"] for one in loss["series"]] == ["small", "large"]
    assert loss["series"][0]["y"] == loss["series"][1]["y"]
