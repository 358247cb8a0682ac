"""Heads on frozen models: made, evaluated, gone on with, and refused."""

import dataclasses
import itertools
import shutil

import dense_images
import headed
import jax.numpy as jnp
import numpy as np
import pytest
from support import pretrain_config, run_command, without_timings

from distill.config import ConfigError, resolve
from distill.errors import UserError
from distill.evaluate.depth import DepthConfig
from distill.evaluate.segmentation import SegmentationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import TransferConfig
from distill.parallel import MeshConfig, make_mesh
from distill.runs.evaluated import evaluate
from distill.runs.heads import HeadTrainingConfig, open_head
from distill.runs.opened import open_model
from distill.runs.weights import WeightsConfig
from distill.train.metrics import read
from distill.train.workdir import Workdir, read_summary
from pipelines import pretrain


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
    return evaluate(WeightsConfig(**headed.of(weights)), {"e": config}, batch_size=4, output=None)


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


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_a_head_that_was_stopped_ends_as_one_that_was_not(weights, masks, depths, tmp_path, task):
    root = masks if task == "segmentation" else depths
    choices = {} if task == "segmentation" else dict(bins=16, mean_alone=3)
    config = headed.configured(weights, root, task, **choices)
    headed.made(tmp_path / "whole", config)
    headed.made(tmp_path / "stopped", config)
    # As a run that was killed after its second step leaves it.
    for gone in ("checkpoints/4", "summary.json"):
        path = tmp_path / "stopped" / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    headed.made(tmp_path / "stopped", config)
    ends = [open_head(tmp_path / name, make_mesh(MeshConfig())) for name in ("whole", "stopped")]
    assert ends[0].step == ends[1].step == 4
    for name, array in ends[0].params["head"].items():
        np.testing.assert_array_equal(array, ends[1].params["head"][name])
    rows = [without_timings(read(tmp_path / name)) for name in ("whole", "stopped")]
    assert rows[0] == rows[1]
    main = "mean_iou" if task == "segmentation" else "rmse"
    again = evaluate(tmp_path / "whole")[f"val/{main}"]
    assert again == pytest.approx(rows[0][-1][f"val/{main}"], rel=1e-6)


def test_a_trained_head_is_standardised_by_the_tokens_of_images_to_train_on(
    weights, masks, tmp_path
):
    config = headed.configured(weights, masks, "segmentation", tokens=dict(layers=(1, 2)))
    headed.made(tmp_path / "run", config)
    opened = open_head(tmp_path / "run", make_mesh(MeshConfig()))
    base, tower = opened.network.base, opened.params["tower"]
    tokens = []
    for number in range(10):
        pixels, _ = dense_images.scene((0, number), dense_images.SIZES[number % 4])
        height, width = pixels.shape[:2]
        places = ({*range(0, side - 16, 16), side - 16} for side in (height, width))
        for top, left in itertools.product(*places):
            window = pixels[None, top : top + 16, left : left + 16].astype(np.float32)
            _, found = base.with_layers(tower, base.normalise(jnp.asarray(window)), (1, 2))
            both = np.concatenate([np.asarray(found.patches[0, k], np.float64) for k in (0, 1)], -1)
            tokens.append(both.reshape(-1, both.shape[-1]))
    tokens, head = np.concatenate(tokens), opened.params["head"]
    np.testing.assert_allclose(head["mean"], tokens.mean(axis=0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(head["std"], np.sqrt(tokens.var(axis=0) + 1e-5), rtol=1e-5)


def test_a_head_learns_what_pixels_show(weights, masks, tmp_path):
    config = headed.configured(
        weights,
        masks,
        "segmentation",
        overrides={
            "train.total_steps": "60",
            "train.eval_every": "30",
            "optimizer.learning_rate": "0.03",
            "train.checkpoint_every": "60",
            "train.keep_best": "val/mean_iou",
        },
    )
    headed.made(tmp_path / "run", config)
    rows = read(tmp_path / "run")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    assert rows[-1]["val/mean_iou"] > 0.4
    assert "val/mean_iou" in evaluate(tmp_path / "run", best=True)


def test_a_tower_that_has_changed_is_refused(masks, tmp_path):
    (tmp_path / "weights").mkdir()
    weights = headed.saved_tower(tmp_path / "weights")
    config = headed.configured(weights, masks, "segmentation", learn="ridge")
    headed.made(tmp_path / "run", config)
    headed.saved_tower(tmp_path / "weights", seed=1)
    for again in (
        lambda: evaluate(tmp_path / "run"),
        lambda: headed.made(tmp_path / "run", config),
    ):
        with pytest.raises(UserError, match="no longer the one: its fingerprint is"):
            again()


def test_a_run_s_model_is_a_tower_too_but_for_its_classifier(masks, tmp_path):
    # The images of masks have no classes, so the model is of others.
    config = pretrain_config(model__channels="3", train__total_steps="2")
    pretrain.run(config, Workdir(tmp_path / "tower"), overview=False)
    tree = headed.tree("", masks, "segmentation", learn="ridge")
    tree["tower"] = dict(workdir=str(tmp_path / "tower"))
    headed.made(tmp_path / "run", resolve(HeadTrainingConfig, tree))
    opened = open_head(tmp_path / "run", make_mesh(MeshConfig()))
    assert "classifier" not in opened.params["tower"]
    assert evaluate(tmp_path / "run")["val/pixel_accuracy"] > 0.3


@pytest.mark.parametrize(
    "change, said",
    [
        (
            dict(task="depth", limits=(0.0, 1.0)),
            r"limits is \(0.0, 1.0\); expected",
        ),
        (dict(task="depth", learn="logistic"), "'logistic'; expected one of ridge, trained"),
        (
            dict(task="segmentation", dropout=1.0),
            "dropout is 1.0; expected number from 0",
        ),
        (dict(task="depth", bins=1), "bins is 1; expected whole number from 2"),
        (dict(task="boxes"), "task"),
    ],
)
def test_heads_that_cannot_be_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        headed.configured("weights", "root", **change)


@pytest.mark.parametrize(
    "learn, overrides, said",
    [
        ("ridge", {"data.train_images": "3"}, "data.train_images is of training in steps"),
        ("ridge", {"evals.val.kind": "transfer"}, "evals.val measures a model of whole images"),
        ("trained", {"tower.workdir": "runs/x"}, "give workdir, of the run that trained the model"),
    ],
)
def test_runs_that_cannot_be_are_refused(learn, overrides, said):
    with pytest.raises(ConfigError, match=said):
        headed.configured("weights", "root", "segmentation", learn=learn, overrides=overrides)


@pytest.mark.parametrize(
    "choices, said",
    [
        (dict(tokens=dict(layers=(9,))), "config.head.tokens: the model has no layer 9"),
        (dict(tokens=dict(stride=99)), "a stride of 99 pixels leaves some unseen"),
    ],
)
def test_tokens_that_the_tower_has_not_are_refused(weights, masks, tmp_path, choices, said):
    with pytest.raises(UserError, match=said):
        headed.made(tmp_path, headed.configured(weights, masks, "segmentation", **choices))


def test_images_without_masks_are_refused(weights, depths, tmp_path):
    config = headed.configured(weights, depths, "depth", learn="ridge")
    head = headed.configured(weights, depths, "segmentation").head
    with pytest.raises(UserError, match="and no segmentation, which a head of"):
        headed.made(tmp_path, dataclasses.replace(config, head=head))


def test_what_is_not_of_pixels_is_refused_of_a_head(weights, masks, tmp_path):
    config = headed.configured(weights, masks, "segmentation", learn="ridge")
    headed.made(tmp_path / "run", config)
    with pytest.raises(UserError, match="is of kind transfer, which measures a model of whole"):
        evaluate(tmp_path / "run", {"few": TransferConfig(shots=(1,))})
    with pytest.raises(UserError, match="leave class_map out"):
        evaluate(tmp_path / "run", {"val": SplitConfig(class_map="in_order")})
    told = f"made a head on another model's tokens.*the model that it is on: {weights}"
    with pytest.raises(UserError, match=told):
        open_model(tmp_path / "run", make_mesh(MeshConfig()))
    others = dense_images.write(tmp_path / "others")
    (others / "classes.txt").write_text("sky\nsea\nbrick")
    with pytest.raises(UserError, match="the head tells sky, grass, brick apart"):
        evaluate(tmp_path / "run", {"val": SplitConfig(source=f"masks:{others}", split="val")})


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
