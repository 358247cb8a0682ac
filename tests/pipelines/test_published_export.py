"""Published weights are exported as a run's model is."""

import json

import jax
import numpy as np
import pytest
from exports import runtimes_in_this_process
from published import big_vision_arrays
from support import run_command

from distill.data import open_source
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.inspect.path import tell
from distill.nn.fingerprint import fingerprint
from distill.runs.weights import WeightsConfig, describe_network
from pipelines import export
from teachers.pretrained import open_published


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls", classes=10))
    return path


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    output = tmp_path_factory.mktemp("export")
    with runtimes_in_this_process():
        done = run_command(
            "export",
            f"--weights={weights}",
            f"--output={output}",
            "--format=stablehlo",
            "--source=digits",
            "--split=validation[:20]",
            "--class_map=in_order",
            "--licence=mit",
        )
    assert done.returncode == 0, done.stderr
    assert "20 images of digits, split validation[:20]" in done.stdout
    return output / "stablehlo" / "1"


def test_it_computes_what_the_weights_do(weights, exported):
    stored = jax.export.deserialize(bytearray((exported / "model.jax_export").read_bytes()))
    published = open_published(weights)
    side = published.network.config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    found = stored.call(pixels)["logits"]
    expected = published.network.apply(published.read(), published.network.prepare(pixels))
    np.testing.assert_allclose(found, expected.logits, atol=1e-4)


def test_its_card_says_where_it_comes_from(weights, exported):
    card = (exported / "MODEL_CARD.md").read_text()
    published = open_published(weights)
    known = fingerprint(published.read(), describe_network(published.network))
    for expected in (
        "# vit\n",
        f"- published weights, read from {weights}\n",
        "- model: ViT of width 24 and depth 2\n",
        f"- fingerprint: `{known}`\n",
        "20 images of digits, split validation[:20]",
    ):
        assert expected in card
    checked = json.loads((exported / "export.json").read_text())["checked"]
    # It guesses, but labels and classes are known to be in one order.
    (right,) = (one["accuracy"] for one in checked)
    labels = open_source("digits", "validation[:20]", channels=3).labels
    assert 0 <= right < 1 and right * len(labels) == pytest.approx(round(right * len(labels)))


def test_it_can_be_inspected(weights, exported):
    told = " ".join(tell(exported).split())
    assert f"published {weights}" in told
    assert "model ViT of width 24 and depth 2" in told


@pytest.mark.parametrize("missing", ["output", "source"])
def test_without_a_workdir_both_places_are_named(weights, tmp_path, missing):
    flags = {"output": f"--output={tmp_path}", "source": "--source=digits"}
    del flags[missing]
    done = run_command("export", f"--weights={weights}", *flags.values())
    assert done.returncode == 2
    assert "give --output, and --source of images to compare on" in done.stderr


def test_formats_refuse_what_they_cannot_express(tmp_path):
    np.savez(tmp_path / "map.npz", **big_vision_arrays("big_vision", "map", classes=10))
    with pytest.raises(UserError, match=r"the format hf cannot hold this model.*head='map'"):
        export.run(
            WeightsConfig(path=str(tmp_path / "map.npz")),
            tmp_path / "export",
            formats=("hf",),
            compared_on=SplitConfig(source="digits"),
            images=4,
        )
    assert not (tmp_path / "export").exists()
