"""Published weights against the implementation they are published with: transformers."""

import json
import types

import jax
import numpy as np
import pytest
from published import INTERMEDIATE as MLP
from published import SIZE, assert_equal, config_of, outputs
from published import saved_by_transformers as saved
from safetensors.torch import load_file, save_file

from distill.errors import UserError
from teachers.pretrained import huggingface, open_published
from teachers.pretrained.settings import Settings

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def run(model, images, **options):
    with torch.no_grad():
        return model(pixel_values=torch.tensor(images.transpose(0, 3, 1, 2)), **options)


@pytest.mark.parametrize(
    ("act", "kind", "config"),
    [
        ("gelu", "ViTForImageClassification", "ViTConfig"),
        ("gelu_new", "ViTForImageClassification", "ViTConfig"),
        ("gelu", "DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        ("gelu", "DeiTForImageClassification", "DeiTConfig"),
        ("gelu_pytorch_tanh", "SiglipForImageClassification", "SiglipConfig"),
    ],
)
def test_classifiers_give_the_same_logits(tmp_path, act, kind, config):
    if config == "SiglipConfig":
        text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
        made = transformers.SiglipConfig(
            vision_config=SIZE | MLP, text_config=text | MLP, num_labels=7
        )
    else:
        made = config_of(config, num_labels=7, hidden_act=act)
    model = saved(tmp_path, kind, made)
    found, images = outputs(tmp_path)
    assert_equal(found.logits, run(model, images).logits)
    if config == "ViTConfig":
        states = model.vit(pixel_values=torch.tensor(images.transpose(0, 3, 1, 2)))
        last = states.last_hidden_state.detach()
        assert_equal(found.embedding, last[:, 0])
        assert_equal(found.tokens, last[:, 1:])


@pytest.mark.parametrize("projection", [False, True])
def test_clip_gives_the_same_embedding(tmp_path, projection):
    kind = "CLIPVisionModelWithProjection" if projection else "CLIPVisionModel"
    model = saved(tmp_path, kind, config_of("CLIPVisionConfig", projection_dim=16))
    found, images = outputs(tmp_path)
    tower = model.vision_model if projection else model
    assert_equal(found.embedding, run(tower, images).pooler_output)
    assert found.logits.shape == (2, 0)


def test_siglip_gives_the_same_embedding_and_tokens(tmp_path):
    model = saved(tmp_path, "SiglipVisionModel", config_of("SiglipVisionConfig"))
    found, images = outputs(tmp_path)
    wanted = run(model, images)
    assert_equal(found.embedding, wanted.pooler_output)
    assert_equal(found.tokens, wanted.last_hidden_state)


def test_the_image_tower_of_a_pair_is_found_beside_the_text_tower(tmp_path):
    text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    config = transformers.SiglipConfig(vision_config=SIZE | MLP, text_config=text | MLP)
    model = saved(tmp_path, "SiglipModel", config)
    found, images = outputs(tmp_path)
    assert_equal(found.embedding, run(model.vision_model, images).pooler_output)


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        ("Dinov2", {}),
        ("Dinov2", dict(use_swiglu_ffn=True)),
        ("Dinov2WithRegisters", dict(num_register_tokens=3)),
    ],
)
def test_dinov2_gives_the_same_embedding_and_tokens(tmp_path, kind, choices):
    config = getattr(transformers, f"{kind}Config")(**SIZE, mlp_ratio=2, **choices)
    model = saved(tmp_path, f"{kind}Model", config)
    found, images = outputs(tmp_path)
    wanted = run(model, images)
    assert_equal(found.embedding, wanted.pooler_output)
    front = 1 + choices.get("num_register_tokens", 0)
    assert_equal(found.tokens, wanted.last_hidden_state[:, front:])


@pytest.mark.parametrize(
    "choices",
    [
        {},
        dict(use_gated_mlp=True, hidden_act="silu", query_bias=False, value_bias=False),
        dict(num_register_tokens=0, rope_theta=30.0, key_bias=True, mlp_bias=False),
    ],
)
def test_dinov3_gives_the_same_embedding_and_tokens(tmp_path, choices):
    config = config_of("DINOv3ViTConfig", **(dict(num_register_tokens=4) | choices))
    model = saved(tmp_path, "DINOv3ViTModel", config)
    wide = dict(image_size=64)
    for size in ({}, wide):
        found, images = outputs(tmp_path, **size)
        wanted = run(model, images)
        assert_equal(found.embedding, wanted.pooler_output)
        assert_equal(found.tokens, wanted.last_hidden_state[:, 1 + config.num_register_tokens :])


FAMILIES = {
    "ViT": (MLP | dict(layer_norm_eps=1e-6), dict(interpolate_pos_encoding=True)),
    "DeiT": (MLP, dict(interpolate_pos_encoding=True)),
    "CLIPVision": (MLP, dict(interpolate_pos_encoding=True)),
    "SiglipVision": (MLP, dict(interpolate_pos_encoding=True)),
    "Dinov2": (dict(mlp_ratio=2), {}),
    "Dinov2WithRegisters": (dict(mlp_ratio=2, num_register_tokens=4), {}),
    "DINOv3ViT": (MLP | dict(num_register_tokens=4), {}),
}


@pytest.mark.parametrize("size", [24, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_another_resolution_interpolates_positions_as_transformers_does(tmp_path, family, size):
    choices, options = FAMILIES[family]
    config = getattr(transformers, f"{family}Config")(**SIZE | choices)
    model = saved(tmp_path, f"{family}Model", config)
    found, images = outputs(tmp_path, image_size=size)
    assert images.shape[1] == size
    wanted = run(model, images, **options).last_hidden_state
    if family == "CLIPVision":
        # Tokens come before the last norm there; only the embedding after it is given.
        assert_equal(found.embedding, run(model, images, **options).pooler_output)
    else:
        assert_equal(found.tokens, wanted[:, wanted.shape[1] - found.tokens.shape[1] :])


@pytest.mark.parametrize("kind", huggingface.MODEL_TYPES)
def test_what_config_json_leaves_out_is_the_default_of_its_class(kind, tmp_path):
    default = transformers.AutoConfig.for_model(kind)
    default = getattr(default, "vision_config", default)
    file = types.SimpleNamespace(path=tmp_path / "model.safetensors", tensors={})
    config = huggingface.describe(file, Settings({"model_type": kind}, "config.json")).config
    assert config.width == default.hidden_size
    assert config.depth == default.num_hidden_layers
    assert config.heads == default.num_attention_heads
    assert config.mlp_dim == getattr(default, "intermediate_size", 4 * config.width)
    assert config.patch_size == default.patch_size
    assert config.image_size == default.image_size
    assert config.norm_epsilon == default.layer_norm_eps
    names = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
    assert config.activation == names[default.hidden_act]
    if kind == "dinov3_vit":
        assert config.rotary_base == default.rope_theta
    if "regist" in kind:
        assert config.registers == default.num_register_tokens


@pytest.mark.parametrize(
    ("kinds", "mean", "std"),
    [
        (("vit", "siglip"), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        (
            ("deit", "dinov2", "dinov2_with_registers", "dinov3_vit"),
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
        ),
        (
            ("clip",),
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
    ],
)
def test_normalisation_is_the_familys_where_nothing_says_it(kinds, mean, std, tmp_path):
    file = types.SimpleNamespace(path=tmp_path / "model.safetensors", tensors={})
    for kind in kinds:
        config = huggingface.describe(file, Settings({"model_type": kind}, "config.json")).config
        assert np.broadcast_to(config.mean, 3).tolist() == list(mean)
        assert np.broadcast_to(config.std, 3).tolist() == list(std)


def test_what_a_model_does_without_is_left_out(tmp_path):
    pooled = saved(tmp_path / "vit", "ViTModel", config_of("ViTConfig"))
    assert any(name.startswith("pooler") for name in pooled.state_dict())
    config = transformers.Dinov2Config(**SIZE, mlp_ratio=2, num_labels=3)
    saved(tmp_path / "dinov2", "Dinov2ForImageClassification", config)
    text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    pair = transformers.CLIPConfig(vision_config=SIZE | MLP, text_config=text | MLP)
    saved(tmp_path / "clip", "CLIPModel", pair)
    # Older versions wrote this buffer.
    file = tmp_path / "clip" / "model.safetensors"
    ids = {"vision_model.embeddings.position_ids": torch.arange(37)[None]}
    save_file(load_file(file) | ids, file)
    for name in ("vit", "dinov2", "clip"):
        found, _ = outputs(tmp_path / name)
        assert found.logits.shape == (2, 0)
    # SigLIP without its head pools nothing here but by the mean.
    saved(tmp_path / "siglip", "SiglipVisionModel", config_of("SiglipVisionConfig"))
    about = tmp_path / "siglip" / "config.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"vision_use_head": False}))
    found, _ = outputs(tmp_path / "siglip")
    assert_equal(found.embedding, found.tokens.mean(axis=1))


def test_patches_that_do_not_reach_the_edge_leave_it_out(tmp_path):
    # As of SigLIP's 384 pixels in patches of 14.
    config = config_of("SiglipVisionConfig", image_size=53)
    model = saved(tmp_path, "SiglipVisionModel", config, preprocessor_config={"size": 53})
    found, images = outputs(tmp_path)
    assert images.shape[1] == 48
    edged = np.pad(images, ((0, 0), (0, 5), (0, 5), (0, 0)))
    assert_equal(found.embedding, run(model, edged).pooler_output)


def test_resolution_normalisation_and_class_names_come_along(tmp_path):
    fed = dict(
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.5, 0.6, 0.7],
        size={"shortest_edge": 64},
        crop_size={"height": 32, "width": 32},
        do_center_crop=True,
    )
    names = {0: "cat", 1: "dog", 2: "owl"}
    config = config_of("ViTConfig", num_labels=3, id2label=names)
    saved(tmp_path, "ViTForImageClassification", config, preprocessor_config=fed)
    model = open_published(tmp_path)
    assert model.class_names == ("cat", "dog", "owl")
    config = model.network.config
    assert (config.image_size, config.mean, config.std) == (32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    other = open_published(tmp_path, image_size=24, mean=(0.4,), std=(0.2,)).network.config
    assert (other.image_size, other.mean, other.std) == (24, (0.4,), (0.2,))
    plain = dict(image_mean=fed["image_mean"], image_std=fed["image_std"])
    for content, size, mean in (
        (dict(size=32), 32, (0.5,)),
        (dict(size={"height": 32, "width": 24}), (32, 24), (0.5,)),
        (dict(size={"shortest_edge": 32}), 32, (0.5,)),
        (plain | dict(size=32, crop_size=24, do_center_crop=False), 32, (0.1, 0.2, 0.3)),
        (plain | dict(size=48, crop_size=24, do_center_crop=True), 24, (0.1, 0.2, 0.3)),
        (plain | dict(size=24, do_normalize=False), 24, (0.0,)),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        config = open_published(tmp_path).network.config
        assert (config.image_size, config.mean) == (size, mean)
    for content, message in (
        (dict(size=8192), "size is 8192; expected a side, or two, of up to 4096 pixels"),
        (dict(size=True), "size is True; expected a side"),
        (dict(image_mean=[float("nan")] * 3), "image_mean is not finite"),
        (dict(image_std=[0.0] * 3), "std must be positive"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            open_published(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    for size in (0, -8, 8192):
        with pytest.raises(UserError, match="image_size must be from 1 to 4096 pixels"):
            open_published(tmp_path, image_size=size)


def test_half_precision_and_several_files_are_read(tmp_path):
    config = config_of("ViTConfig", num_labels=3)
    model = saved(tmp_path / "a", "ViTForImageClassification", config)
    model.bfloat16().save_pretrained(tmp_path / "b", max_shard_size="30KB")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 1
    (whole, _), (halved, _) = outputs(tmp_path / "a"), outputs(tmp_path / "b")
    assert 0 < np.abs(whole.logits - halved.logits).max() < 0.1
    low = open_published(tmp_path / "a", dtype="bfloat16")
    assert low.network.config.dtype == "bfloat16"
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(low.read("bfloat16"))} == {"bfloat16"}


def test_a_config_of_another_model_is_refused(tmp_path):
    saved(tmp_path, "ViTForImageClassification", config_of("ViTConfig", num_labels=3))
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    for changed, message in {
        "num_hidden_layers=2": r"layer\.2\..* belongs to nothing",
        "num_hidden_layers=4": r"layer\.3\.layernorm_before\.weight is missing; expected \[32\]",
        "num_hidden_layers=1000": "not those of 1000 layers",
        "hidden_size=64": r"cls_token is \[1, 1, 32\]; expected \[1, 1, 64\]",
        "hidden_size=99999999999": r"expected a whole number below 2\^20",
        'model_type="resnet"': "model_type 'resnet'; expected one of vit, deit",
        'hidden_act="relu"': "hidden_act 'relu'",
        "num_attention_heads=5": "width 32 is not divisible by heads 5",
        'patch_size="8"': "patch_size is '8'; expected a whole number",
        "patch_size=0": "patch_size is 0",
        "image_size=100000": "expected a side, or two, of up to 4096 pixels",
        "layer_norm_eps=1e999": "layer_norm_eps is not finite",
        f"layer_norm_eps={10**400}": "layer_norm_eps is not finite",
        'qkv_bias="yes"': "expected true or false",
    }.items():
        key, _, value = changed.partition("=")
        file.write_text(json.dumps(content | {key: json.loads(value)}))
        with pytest.raises(UserError, match=message):
            open_published(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"need the config\.json"):
        open_published(tmp_path)


IN_MEMORY = {
    "ViT": ("ViTForImageClassification", MLP | dict(num_labels=3)),
    "DeiT": ("DeiTForImageClassificationWithTeacher", MLP | dict(num_labels=3)),
    "DeiT, one classifier": ("DeiTForImageClassification", MLP | dict(num_labels=3)),
    "CLIPVision": ("CLIPVisionModel", MLP),
    "SiglipVision": ("SiglipVisionModel", MLP),
    "Dinov2": ("Dinov2ForImageClassification", dict(mlp_ratio=2)),
    "Dinov2, gated": ("Dinov2Model", dict(mlp_ratio=2, use_swiglu_ffn=True)),
    "Dinov2WithRegisters": ("Dinov2WithRegistersModel", dict(mlp_ratio=2)),
    "DINOv3ViT": ("DINOv3ViTModel", MLP | dict(num_register_tokens=2)),
    "DINOv3ViT, gated": ("DINOv3ViTModel", MLP | dict(use_gated_mlp=True, hidden_act="silu")),
}


@pytest.mark.parametrize(
    ("family", "wrapper"),
    [*((family, "") for family in IN_MEMORY), ("ViT", "module."), ("Dinov2", "_orig_mod.module.")],
)
def test_a_state_dict_gives_what_the_file_gives(tmp_path, family, wrapper):
    kind, choices = IN_MEMORY[family]
    config = getattr(transformers, f"{family.partition(',')[0]}Config")(**SIZE | choices)
    model = saved(tmp_path, kind, config)
    wanted, _ = outputs(tmp_path)
    state = {f"{wrapper}{name}": value for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    found, _ = outputs(tmp_path)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_blocks_that_were_compiled_one_by_one_are_read(tmp_path):
    model = saved(tmp_path, "ViTModel", config_of("ViTConfig"))
    wanted, _ = outputs(tmp_path)
    state = {
        name.replace("layers.0.", "layers.0._orig_mod."): value
        for name, value in model.state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors")
    found, _ = outputs(tmp_path)
    np.testing.assert_array_equal(found.embedding, wanted.embedding)
    first = next(iter(state))
    save_file(state | {f"module.{first}": state[first].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"holds {first} and module.{first}: which is it"):
        open_published(tmp_path)


def test_an_index_left_beside_whole_weights_is_not_read(tmp_path):
    config = config_of("ViTConfig")
    model = saved(tmp_path, "ViTModel", config)
    wanted, _ = outputs(tmp_path)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1 and (tmp_path / "model.safetensors.index.json").exists()
    # transformers removes the whole file when it writes parts, but not the parts or their index.
    assert outputs(tmp_path)[0].embedding.tolist() == wanted.embedding.tolist()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    changed, images = outputs(tmp_path)
    loaded = transformers.ViTModel.from_pretrained(tmp_path, local_files_only=True).eval()
    assert_equal(changed.tokens, run(loaded, images).last_hidden_state[:, 1:])
