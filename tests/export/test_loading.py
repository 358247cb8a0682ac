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

# What is not there where an export is used, and timm where torchvision is not.
ABSENT = """
import sys
sys.path.append({tests!r})
sys.modules.update(dict.fromkeys(("distill", "flax", "orbax", {also})))
"""
VIEW = EvaluationView(crop=0.875, filter="bicubic")
SHIM = "import timm_without_torchvision\n"
SAVE = '\nnp.save("logits.npy", logits)\n'


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "channels"),
    [*((form, 3) for form in BLOCKS), ("saved_model", 1), ("hf", 1), ("timm", 1)],
)
def test_the_documented_lines_name_the_class(form, channels, tmp_path, monkeypatch):
    if absent := [name for name in NEEDS.get(form, ()) if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs {absent}")
    exported = exportable(channels=channels, view=VIEW, mean=(0.4,), std=(0.2,))
    directory = tmp_path / "runs/student/export" / ("1" if form == "saved_model" else f"{form}/1")
    directory.parent.mkdir(parents=True)
    FORMATS[form].write[0](exported, directory)
    write_description(exported, directory)
    write_image(tmp_path / "image.jpg", (37, 50))

    also = "" if form == "stablehlo" else "'jax'"
    start = ABSENT.format(tests=str(REPOSITORY / "tests"), also=also)
    start += SHIM if form == "timm" else ""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    lines = BLOCKS[form].replace('"RGB"', '"L"') if channels == 1 else BLOCKS[form]
    script = start + LOAD_IMAGE + lines + SAVE
    done = run_python("-c", script, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr

    view = evaluation_view(decode((tmp_path / "image.jpg").read_bytes(), channels), 12, VIEW)
    scaled = (view[None].astype(np.float32) / 255 - np.float32(0.4)) / np.float32(0.2)
    expected = exported.network.apply(exported.params, jnp.asarray(scaled)).logits
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)
    assert done.stdout.splitlines()[-1] == exported.class_names[int(np.argmax(expected))]
