"""Heads, exported: images of any size in their own runtimes, beside the windows of evaluations."""

import dense_images
import headed
import jax
import numpy as np
import pytest
from exports import runtimes_in_this_process

from distill.errors import UserError
from distill.export.dense import DenseExportable
from distill.export.dense_verify import DenseSamples, DenseVerifier
from distill.export.model import ExportMismatch
from distill.export.versions import check_format, export_version
from distill.nn.dense import DepthScale

SIZES = ((16, 16), (20, 33), (41, 24), (9, 11), (7, 40))


def exportable(scale=None, **view):
    network = headed.network(3 if scale is None else 8, scale, **view)
    params = dense_images.drawn(network)
    # Of what is drawn near 0, the standard deviation cannot be.
    params["head"]["std"] = np.abs(params["head"]["std"]) + 0.5
    return DenseExportable(
        network=network, params=jax.device_get(params), class_names=network.config.class_names
    )


def images(sizes=SIZES):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


DEPTHS = [None, DepthScale(kind="bins", limits=(0.5, 4.0))]


@pytest.mark.parametrize("scale", DEPTHS, ids=("classes", "bins"))
def test_windows_inside_the_function_are_those_of_evaluations(scale):
    model = exportable(scale, layers=(1, 2), class_token=True, stride=12)
    verifier, serve = DenseVerifier(model, DenseSamples(images())), jax.jit(model.function())
    for image in images():
        expected, found = verifier.expected(image), serve(model.params, image[None])
        if scale is None:
            np.testing.assert_allclose(found["scores"][0], expected, rtol=0, atol=2e-5)
            assert np.mean(np.asarray(found["mask"][0]) == expected.argmax(-1)) == 1
        else:
            np.testing.assert_allclose(found["depth"][0], expected[..., 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("form", ["stablehlo", "saved_model", "onnx"])
@pytest.mark.parametrize("scale", DEPTHS, ids=("classes", "bins"))
def test_an_export_says_of_images_of_any_size_what_jax_says(form, scale, tmp_path):
    model = exportable(scale)
    if form == "onnx":
        model = DenseExportable(**(vars(model) | {"size": (20, 27)}))
    with runtimes_in_this_process():
        verifier = DenseVerifier(model, DenseSamples(images()))
        version = export_version(model, form, tmp_path, verifier, {"name": "head"})
    (checked,) = version.checked
    assert checked.difference < 1e-4 and checked.agreement == 1
    card = (version.path / "MODEL_CARD.md").read_text()
    assert ("[batch, height, width, 3]" in card) == (form != "onnx")
    assert "20×27 alone" in card if form == "onnx" else "of any size" in card


def test_what_cannot_be_exported_is_said():
    with pytest.raises(ValueError, match="sees whole images"):
        exportable(seen="whole")
    with pytest.raises(ValueError, match="images of 8×30 pixels are smaller than a window, of 16"):
        DenseExportable(**(vars(exportable()) | {"size": (8, 30)}))
    with pytest.raises(UserError, match="holds models of images, and this is a head"):
        check_format("tflite", exportable())


def test_an_export_that_says_something_else_is_refused(tmp_path):
    model = exportable()
    params = model.params | {"head": model.params["head"] | {"bias": np.float32([0.0, 0.0, 9.0])}}
    other = DenseExportable(**(vars(model) | {"params": params}))
    with runtimes_in_this_process(), pytest.raises(ExportMismatch, match="scores of the StableHLO"):
        export_version(other, "stablehlo", tmp_path, DenseVerifier(model, DenseSamples(images())))
