"""Published weights against the implementation they are published with: timm."""

import json
import types

import numpy as np
import pytest
from published import assert_equal, outputs
from published import saved_by_timm as saved
from timm_without_torchvision import timm

from distill.errors import UserError
from distill.tensor_files import Tensor
from teachers.pretrained import load, open_published

torch = pytest.importorskip("torch")


MODELS = {
    "vit_base_patch16_224": dict(num_classes=5),
    "deit_base_distilled_patch16_224": dict(num_classes=5),
    "vit_base_patch16_clip_224": dict(num_classes=0),
    "vit_base_patch16_clip_quickgelu_224": dict(num_classes=6),
    "vit_base_patch16_siglip_224": dict(num_classes=0),
    "vit_base_patch16_siglip_gap_224": dict(num_classes=4),
    "vit_base_patch14_dinov2": dict(num_classes=0),
    "vit_base_patch14_reg4_dinov2": dict(num_classes=0),
    "vit_giant_patch14_dinov2": dict(num_classes=0),
}


@pytest.mark.parametrize("name", MODELS)
def test_timm_gives_the_same_outputs(tmp_path, name):
    model = saved(tmp_path, name, **MODELS[name])
    found, images = outputs(tmp_path, heads=4)
    with torch.no_grad():
        tokens = model.forward_features(torch.tensor(images.transpose(0, 3, 1, 2)))
        assert_equal(found.tokens, tokens[:, model.num_prefix_tokens :])
        assert_equal(found.embedding, model.forward_head(tokens, pre_logits=True))
        if model.num_classes:
            assert_equal(found.logits, model.forward_head(tokens))
        else:
            assert found.logits.shape == (2, 0)


def test_what_config_json_says_comes_along(tmp_path):
    saved(tmp_path, "vit_base_patch16_224", num_classes=2)
    file = tmp_path / "config.json"
    about = json.loads(file.read_text()) | {
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
        "label_names": ["cat", "dog"],
        "model_args": {"num_heads": 8, "act_layer": "gelu_tanh"},
    }
    file.write_text(json.dumps(about))
    model = open_published(tmp_path)
    config = model.network.config
    assert (config.mean, config.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (config.heads, config.activation) == (8, "gelu_tanh")
    assert model.class_names == ("cat", "dog")
    for changed, message in (
        ({"global_pool": "avg"}, "global_pool 'avg', which is not supported"),
        ({"model_args": {"act_layer": "avg"}}, "act_layer 'avg'; expected one of gelu"),
        ({"pretrained_cfg": {"input_size": [3, 0, 0]}}, "input_size is .* expected .3, height"),
    ):
        file.write_text(json.dumps(about | changed))
        with pytest.raises(UserError, match=message):
            open_published(tmp_path, heads=4)


# timm's own size, 384, is no multiple of the patch; its convolution leaves out the edge.
_FEWER_PIXELS = {"vit_so400m_patch14_siglip_384", "vit_so400m_patch14_siglip_gap_384"}
_ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu"}


@pytest.mark.slow
def test_every_model_of_timm_is_read_as_it_is_or_refused(tmp_path, monkeypatch):
    """By names and shapes: what tensors do not say has to be right for its architecture.

    Of two blocks, as all blocks of a model are alike.
    """
    read = []
    for name in [
        n for part in ("vision_transformer", "deit") for n in timm.list_models(module=part)
    ]:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, depth=2)
        state = model.state_dict()
        tensors = {key: Tensor("F32", tuple(value.shape)) for key, value in state.items()}
        file = types.SimpleNamespace(path=tmp_path, tensors=tensors, metadata={})
        monkeypatch.setattr(load, "open_file", lambda _, file=file: file)
        fed = {key: model.pretrained_cfg[key] for key in ("mean", "std", "input_size")}
        about = {"architecture": name, "pretrained_cfg": fed, "global_pool": model.global_pool}
        (tmp_path / "config.json").write_text(json.dumps(about))
        try:
            config = open_published(tmp_path).network.config
        except UserError:
            continue
        block = model.blocks[0]
        activations = {block.mlp.act} | ({model.attn_pool.mlp.act} if model.attn_pool else set())
        assert config.heads == block.attn.num_heads, name
        assert {config.activation} == {_ACTIVATIONS[type(a).__name__] for a in activations}, name
        assert config.norm_epsilon == block.norm1.eps == model.norm.eps, name
        assert (config.mean, config.std) == (fed["mean"], fed["std"]), name
        size = (3, 378, 378) if name in _FEWER_PIXELS else fed["input_size"]
        assert config.image_shape == (*size[1:], 3), name
        read.append(name)
    assert len(read) > 100


def test_a_pooled_norm_is_named_as_unknown(tmp_path):
    saved(tmp_path, "vit_medium_patch16_reg4_gap_256", num_classes=3)
    with pytest.raises(UserError, match=r"fc_norm\.weight \[32\] belongs to nothing in the model"):
        open_published(tmp_path, heads=4)


def test_positions_of_a_square_grid_are_told_from_those_in_front(tmp_path):
    model = saved(tmp_path, "vit_base_patch14_reg4_dinov2", num_classes=0)
    assert model.pos_embed.shape == (1, 36, 32)
    read = open_published(tmp_path, heads=4).read()
    table = model.pos_embed.detach().numpy().reshape(6, 6, 32)
    np.testing.assert_array_equal(read["position"]["table"], table)
    np.testing.assert_array_equal(read["registers"], model.reg_token.detach().numpy())
