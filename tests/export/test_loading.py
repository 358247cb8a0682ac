"""The code in docs/export.md: from an image file to a class, for whoever has only the export."""

import importlib.util
import json
import os
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from support import REPOSITORY, exportable, run_python

from distill.data.sources import decode
from distill.data.views import evaluation_view
from distill.evaluation_view import EvaluationView
from distill.export.versions import DESCRIPTION, FORMATS

NEEDS = {
    "saved_model": ("tensorflow",),
    "tflite": ("tensorflow",),
    "onnx": ("jax2onnx", "onnx", "onnxruntime"),
    "hf": ("torch", "transformers"),
    "timm": ("torch", "timm"),
}
SECTION = (REPOSITORY / "docs" / "export.md").read_text().split("\n## From an image file")[1]
SECTION = SECTION.partition("\n## ")[0]
LOAD_IMAGE, *_ = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
BLOCKS = dict(re.findall(r"^`(\w+)`[^\n]*:\n\n```python\n(.*?)```", SECTION, re.DOTALL | re.M))

# Half of what another holds.
ALONE = ("tflite_float32", "tflite_int8")

# What is not there where an export is used.
ABSENT = """
import sys
sys.path.append({tests!r})
sys.modules.update(dict.fromkeys(("distill", "flax", "orbax", "keras", {also})))
"""
VIEW = EvaluationView(crop=0.875, filter="bicubic")
# timm where torchvision is not.
SHIM = "import timm_without_torchvision\n"
# Runs the lines of several exports in one process, which loads TensorFlow and PyTorch once.
RUN = """
import contextlib, io, json, os
answers = []
for directory, lines in json.load(open("lines.json")):
    os.chdir(directory)
    defined, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(lines, defined)
    answers.append([defined["logits"].tolist(), printed.getvalue().splitlines()[-1]])
print(json.dumps(answers))
"""


def write_image(file: Path, size: tuple[int, int]) -> None:
    """A colour JPEG, no part of which looks like another."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file)


def write_description(exported, directory: Path) -> None:
    """The part of export.json that the code reads."""
    described = {"preprocessing": exported.preprocessing}
    (directory / DESCRIPTION).write_text(json.dumps(described))


def test_every_format_has_its_lines():
    assert list(BLOCKS) == [form for form in FORMATS if form not in ALONE]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(12, 12), (37, 50), (101, 64), (8, 300)])
@pytest.mark.parametrize(
    "view",
    [
        dict(),
        dict(crop=0.61, filter="lanczos"),
        dict(crop=1.0, filter="bicubic"),
        dict(crop=0.9, resize="squash"),
    ],
)
def test_images_are_those_of_an_evaluation(channels, size, view, tmp_path):
    view = EvaluationView(**view)
    exported = exportable(channels=channels, view=view)
    write_description(exported, tmp_path)
    write_image(tmp_path / "image.jpg", size)
    defined = {}
    exec(LOAD_IMAGE, defined)
    found = defined["load_image"](tmp_path / "image.jpg", tmp_path)
    expected = evaluation_view(decode((tmp_path / "image.jpg").read_bytes(), channels), 12, view)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[None])


# hf before timm, whose stand-in for torchvision the others do without.
CASES = [*((form, 3) for form in BLOCKS), ("saved_model", 1), ("hf", 1), ("timm", 1)]
CASES.sort(key=lambda case: case[0] == "timm")


def absent(form: str) -> list[str]:
    return [name for name in NEEDS.get(form, ()) if importlib.util.find_spec(name) is None]


def student(channels: int):
    return exportable(channels=channels, view=VIEW, mean=(0.4,), std=(0.2,))


def run_lines(cases, root: Path) -> dict:
    """Exports, then runs the documented lines beside each: logits and what was printed last."""
    written = []
    for form, channels in cases:
        exported, where = student(channels), root / f"{form} of {channels}"
        place = "1" if form == "saved_model" else f"{form}/1"
        directory = where / "runs/student/export" / place
        directory.parent.mkdir(parents=True)
        FORMATS[form].write[0](exported, directory)
        write_description(exported, directory)
        write_image(where / "image.jpg", (37, 50))
        lines = BLOCKS[form].replace('"RGB"', '"L"') if channels == 1 else BLOCKS[form]
        start = SHIM if form == "timm" else ""
        written.append((str(where), start + LOAD_IMAGE + lines))
    (root / "lines.json").write_text(json.dumps(written))
    also = "" if cases == [("stablehlo", 3)] else "'jax'"
    done = run_python(
        *("-c", ABSENT.format(tests=str(REPOSITORY / "tests"), also=also) + RUN),
        cwd=root,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the lines of every format that can be used here say, with JAX and without."""
    cases = [case for case in CASES if not absent(case[0])]
    found = {}
    for with_jax in (True, False):
        chosen = [case for case in cases if (case[0] == "stablehlo") == with_jax]
        found |= run_lines(chosen, tmp_path_factory.mktemp("lines"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("form", "channels"), CASES)
def test_the_documented_lines_name_the_class(form, channels, answers, tmp_path):
    if missing := absent(form):
        pytest.skip(f"needs {missing}")
    logits, said = answers[form, channels]
    exported = student(channels)
    write_image(tmp_path / "image.jpg", (37, 50))
    view = evaluation_view(decode((tmp_path / "image.jpg").read_bytes(), channels), 12, VIEW)
    scaled = (view[None].astype(np.float32) / 255 - np.float32(0.4)) / np.float32(0.2)
    expected = exported.network.apply(exported.params, jnp.asarray(scaled)).logits
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert said == exported.class_names[int(np.argmax(expected))]
