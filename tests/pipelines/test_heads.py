"""Heads on frozen models: made, evaluated, gone on with, and refused."""

import dense_images
import headed
import numpy as np
import pytest
from support import run_command

from distill.errors import UserError
from distill.evaluate.depth import DepthConfig
from distill.evaluate.segmentation import SegmentationConfig
from distill.parallel import MeshConfig, make_mesh
from distill.runs.evaluated import evaluate
from distill.runs.heads import open_head
from distill.runs.opened import open_model
from distill.runs.weights import WeightsConfig
from distill.train.workdir import read_summary


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return headed.saved_tower(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return dense_images.write(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    return dense_images.write(tmp_path_factory.mktemp("depths"), depths=True)


def learnt(config, weights):
    """What an evaluation that learns says of published weights."""
    return evaluate(WeightsConfig(path=str(weights)), {"e": config}, batch_size=4, output=None)


@pytest.mark.parametrize("learn", ["ridge", "logistic"])
def test_a_head_in_closed_form_has_the_figures_of_the_evaluation_that_learns_it(
    weights, masks, tmp_path, learn
):
    config = headed.configured(
        weights, masks, "segmentation", learn=learn, tokens=dict(layers=(2, 1), class_token=True)
    )
    found = headed.made(tmp_path / "run", config).summary
    wanted = learnt(
        SegmentationConfig(
            source=f"masks:{masks}", train_split="train", test_split="val", probe=learn,
            tokens=config.head.tokens,
        ),
        weights,
    )  # fmt: skip
    again = evaluate(tmp_path / "run")
    for name in ("mean_iou", "pixel_accuracy", "mean_class_accuracy"):
        for figures, prefix in ((found, "val"), (found, "test"), (again, "val")):
            assert figures[f"{prefix}/{name}"] == pytest.approx(wanted[f"e/{name}"], abs=1e-6)
    assert wanted["e/mean_iou"] > 0.4
    headed.made(tmp_path / "run", config)
    assert read_summary(tmp_path / "run") == found


def test_a_depth_in_closed_form_has_the_figures_of_the_evaluation_that_learns_it(
    weights, depths, tmp_path
):
    config = headed.configured(weights, depths, "depth", learn="ridge", l2=0.1)
    found = headed.made(tmp_path / "run", config).summary
    wanted = learnt(
        DepthConfig(source=f"depth:{depths}", train_split="train", test_split="val", l2=0.1),
        weights,
    )
    for name in ("rmse", "delta1", "silog", "aligned/rmse"):
        assert found[f"test/{name}"] == pytest.approx(wanted[f"e/{name}"], rel=1e-5)


def test_a_head_is_exported_by_command_and_looked_at(weights, masks, tmp_path):
    config = headed.configured(weights, masks, "segmentation", learn="ridge")
    headed.made(tmp_path / "run", config)
    done = run_command(
        "export", f"--workdir={tmp_path}/run", "--format=stablehlo,onnx", "--size=24x20"
    )
    assert done.returncode == 0, done.stderr
    assert "compared with JAX on 4 images of masks:" in done.stdout
    for form, shape in (("stablehlo", "[batch, height, width, 3]"), ("onnx", "[batch, 24, 20, 3]")):
        card = (tmp_path / "run" / "export" / form / "1" / "MODEL_CARD.md").read_text()
        assert shape in card and "classes: sky, grass, brick" in card
        assert "teacher tower" in card and str(weights) in card
        shown = run_command("inspect", tmp_path / "run" / "export" / form / "1")
        assert shown.returncode == 0 and "a head with 3 outputs on a ViT" in shown.stdout
    shown = run_command("inspect", tmp_path / "run")
    assert shown.returncode == 0 and "train_head" in shown.stdout
