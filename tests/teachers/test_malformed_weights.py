"""What is refused of a sound file, or a path, that does not hold a known model's weights."""

import json
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from published import Bomb, big_vision_arrays, timm_arrays

from distill.errors import UserError
from teachers.pretrained import open_published
from teachers.pretrained.settings import Settings


def test_every_tensor_that_does_not_fit_is_named(npz, timm):
    file = npz(
        **{
            "cls": None,
            "head/bias": np.zeros(6, np.float32),
            "Transformer/encoderblock_1/LayerNorm_2/scale": None,
            "extra/kernel": np.zeros((2, 3), np.float32),
        }
    )
    with pytest.raises(UserError) as error:
        open_published(file)
    message = str(error.value)
    # Without a class token it is a model whose position embedding has one row too many.
    assert "is [1, 17, 24]; expected [1, 16, 24]" in message
    assert "head/bias is [6]; expected [5]" in message
    assert "Transformer/encoderblock_1/LayerNorm_2/scale is missing; expected [24]" in message
    assert "extra/kernel [2, 3] belongs to nothing in the model" in message

    file = timm(
        **{
            "blocks.0.attn.qkv.bias": np.zeros(97, np.float32),
            "norm.weight": None,
            "blocks.0.ls9": np.zeros(1, np.float32),
        }
    )
    with pytest.raises(UserError) as error:
        open_published(file, heads=4)
    message = str(error.value)
    assert "blocks.0.attn.qkv.bias is [97]; expected [96]" in message
    assert "norm.weight is missing; expected [32]" in message
    assert "blocks.0.ls9 [1] belongs to nothing" in message


def test_integers_are_no_weights(timm, npz):
    with pytest.raises(UserError, match=r"norm\.bias is I32; expected floating-point"):
        open_published(timm(**{"norm.bias": np.zeros(32, np.int32)}), heads=4).read()
    with pytest.raises(UserError, match="head/bias is int32; expected floating-point"):
        open_published(npz(**{"head/bias": np.zeros(5, np.int32)})).read()


def test_arrays_in_fortrans_order_and_other_precisions_are_read(npz):
    arrays = big_vision_arrays("original", "cls")
    kernel = arrays["head/kernel"]
    expected = open_published(npz()).read()["classifier"]["kernel"]
    for stored in (np.asfortranarray(kernel), kernel.astype(">f8"), kernel.astype("<f4")):
        read = open_published(npz(**{"head/kernel": stored})).read()["classifier"]["kernel"]
        np.testing.assert_array_equal(read, expected)
    half = kernel.astype(jnp.bfloat16)
    read = open_published(npz(**{"head/kernel": half})).read()["classifier"]["kernel"]
    np.testing.assert_array_equal(read, half.astype(np.float32))


def test_names_that_cannot_be_shown_are_refused(npz, timm):
    for name in ("\x1b[31mred", "a" * 300):
        with pytest.raises(UserError, match=r"a tensor is called '(\\x1b|aaa)"):
            open_published(timm(**{name: np.zeros(3, np.float32)}))
        with pytest.raises(UserError, match=r"a tensor is called '(\\x1b|aaa)"):
            open_published(npz(**{name: np.zeros(3, np.float32)}))


def test_an_optimiser_beside_the_model_is_left_out(npz):
    arrays = big_vision_arrays("original", "cls")
    state = {"opt/state/step": np.int64(7), **{f"opt/target/{k}": v for k, v in arrays.items()}}
    found = open_published(npz(**dict.fromkeys(arrays), **state)).read()
    np.testing.assert_array_equal(found["classifier"]["kernel"], arrays["head/kernel"])


def test_a_path_without_weights_is_refused(tmp_path, timm):
    with pytest.raises(UserError, match="do not exist"):
        open_published(tmp_path / "nowhere.npz")
    with pytest.raises(UserError, match=r"should hold one .* but has none"):
        open_published(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no file of weights that is known"):
        open_published(tmp_path / "notes.txt")
    timm()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        open_published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    for name in ("../b.safetensors", "..", "", "notes.txt", "absent.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(UserError, match=r"which is no \.safetensors file beside it"):
            open_published(tmp_path)
    for damaged in ({}, {"weight_map": {}}, {"weight_map": {"a": 3}}, []):
        index.write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="it has no weight_map of names to files"):
            open_published(tmp_path)


def test_a_path_that_is_no_weights_is_refused(tmp_path):
    for path, message in (
        (tmp_path / ("a" * 5000), "cannot be read"),
        (Path("/dev/zero"), "no file and no directory"),
    ):
        with pytest.raises(UserError, match=message):
            open_published(path)
    (tmp_path / "loop.safetensors").symlink_to(tmp_path)
    (tmp_path / "endless.npz").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="but has none"):
        open_published(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle"):
        open_published(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json is damaged: it is a directory"):
        Settings.beside(tmp_path, "config.json")


def test_a_model_of_another_family_is_refused(npz, timm):
    with pytest.raises(UserError, match="of the family big_vision, not dinov2"):
        open_published(npz(), family="dinov2")
    with pytest.raises(UserError, match="says how many heads its model has; leave heads out"):
        open_published(npz(), heads=3)
    assert open_published(timm(), family="timm", heads=4).family == "timm"


def test_heads_that_nothing_says_are_asked_for(timm):
    with pytest.raises(UserError, match="how many heads a model of width 32 has; give heads"):
        open_published(timm())
    assert open_published(timm(), heads=4).network.config.heads == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(npz, bad, dtype):
    bias = np.zeros(5, dtype)
    bias[3] = bad
    model = open_published(npz(**{"head/bias": bias}))
    with pytest.raises(
        UserError, match=r"vit.npz: head/bias has 1 of 5 values that are not finite"
    ):
        model.read()


def test_numbers_too_large_for_what_they_are_computed_in_are_not_finite(npz):
    model = open_published(npz(**{"head/bias": np.full(5, 1e300)}))
    with pytest.raises(UserError, match="head/bias has 5 of 5 values that are not finite"):
        model.read()


def test_what_is_missing_is_named_with_what_is_there(npz, timm):
    with pytest.raises(UserError) as error:
        open_published(timm(**{"norm.weight": None}), heads=4)
    assert "norm.weight is missing" in str(error.value)
    assert "it has 19 tensors, such as blocks.0.norm" in str(error.value)
    with pytest.raises(
        UserError, match=r"is missing: it has 19 tensors, such as patch_embed\.proj"
    ):
        open_published(timm(**{"patch_embed.proj.weight": None}), heads=4)
    with pytest.raises(UserError, match=r"it has 1 tensors, such as weight"):
        open_published(timm(**dict.fromkeys(timm_arrays()), weight=np.zeros(1, np.float32)))


def test_a_repositorys_name_says_how_to_download_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = "hf download facebook/dinov2-base --local-dir=weights/dinov2-base"
    for path in ("facebook/dinov2-base", tmp_path / "facebook/dinov2-base"):
        with pytest.raises(UserError, match=wanted):
            open_published(Path(path))
    with pytest.raises(UserError, match="hf download timm/vit_base --local-dir"):
        open_published(Path("hf-hub:timm/vit_base"))
    (tmp_path / "weights").mkdir()
    for path in ("weights/dinov2-base", "a/b/c", "nowhere", "/a/b", "a/b.npz"):
        with pytest.raises(UserError, match=r"do not exist$"):
            open_published(Path(path))


def test_versions_in_a_directory_are_named(tmp_path, timm):
    (tmp_path / "export" / "1").mkdir(parents=True)
    timm().rename(tmp_path / "export" / "1" / "model.safetensors")
    with pytest.raises(UserError, match=r"export should hold one .* has none; 1 in it may be"):
        open_published(tmp_path / "export")
