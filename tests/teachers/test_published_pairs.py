"""Published pairs against the implementation they are published with: transformers."""

import json

import jax
import numpy as np
import pytest
from published import saved_by_transformers
from published_pairs import (
    EOS,
    IDS,
    IMAGE,
    TEXT,
    assert_same,
    changed,
    found_by,
    saved_clip,
    saved_siglip,
    told_by,
)

from distill.errors import UserError
from teachers.pretrained import open_pair, open_published, open_text
from teachers.pretrained.huggingface_text import TEXT_TYPES, describe_text
from teachers.pretrained.settings import Settings

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize(("eos", "pool"), [(EOS, "eos"), (2, "argmax")])
def test_clip_gives_the_same_embeddings_and_logits(tmp_path, act, eos, pool):
    model = saved_clip(tmp_path, act=act, eos=eos)
    pair = open_pair(tmp_path)
    assert (pair.family, pair.length) == ("clip", 7)
    assert pair.network.config.text.pool == pool
    assert pair.network.config.text.activation == act
    found, images = found_by(pair)
    assert_same(found, told_by(model, images))


@pytest.mark.parametrize(
    ("choices", "tokenizer", "family"),
    [
        ({}, None, "siglip"),
        ({}, "SiglipTokenizer", "siglip"),
        ({}, "GemmaTokenizerFast", "siglip2"),
        ({}, "Siglip2Tokenizer", "siglip2"),
        (dict(vocab_size=256_000), None, "siglip2"),
    ],
)
def test_siglip_and_siglip_2_give_the_same_embeddings_and_logits(
    tmp_path, choices, tokenizer, family
):
    model = saved_siglip(tmp_path, **choices)
    if tokenizer:
        about = json.dumps({"tokenizer_class": tokenizer})
        (tmp_path / "tokenizer_config.json").write_text(about)
    pair = open_pair(tmp_path)
    assert (pair.family, pair.network.config.text.pool) == (family, "last")
    found, images = found_by(pair)
    assert_same(found, told_by(model, images))


def test_the_family_of_a_pair_is_what_is_expected(tmp_path):
    saved_siglip(tmp_path)
    assert open_pair(tmp_path, family="siglip2").family == "siglip2"
    with pytest.raises(UserError, match="of the family siglip, not clip"):
        open_pair(tmp_path, family="clip")
    with pytest.raises(UserError, match="one of clip, siglip, siglip2, not vit"):
        open_pair(tmp_path, family="vit")


def test_the_towers_of_a_pair_are_what_they_are_alone(tmp_path):
    saved_clip(tmp_path)
    pair = open_pair(tmp_path)
    params, image, text = pair.read(), open_published(tmp_path), open_text(tmp_path)
    assert image.network.config == pair.network.config.image
    assert text.network.config == pair.network.config.text
    assert image.view == pair.view
    jax.tree.map(np.testing.assert_array_equal, params["image"], image.read())
    jax.tree.map(np.testing.assert_array_equal, params["text"], text.read())


def test_what_follows_the_end_changes_nothing_of_a_causal_text_and_all_of_another(tmp_path):
    padded = np.where(np.arange(7) > IDS.argmax(1)[:, None], 7, IDS)
    assert (padded != IDS).any()
    for folder, save, same in (("clip", saved_clip, True), ("siglip", saved_siglip, False)):
        save(tmp_path / folder)
        tower = open_text(tmp_path / folder)
        embed = jax.jit(tower.network.apply)
        params = tower.read()
        first, second = (np.asarray(embed(params, ids).embedding) for ids in (IDS, padded))
        short = IDS.argmax(1) < 6
        assert (np.abs(first - second)[short].max(1) < 1e-6).all() == same
        np.testing.assert_array_equal(first[~short], second[~short])


def test_padding_on_the_left_is_another_text_to_both(tmp_path):
    model = saved_siglip(tmp_path)
    left = np.roll(IDS, 3, axis=1)
    found, images = found_by(open_pair(tmp_path), left)
    assert_same(found, told_by(model, images, left))
    right, _ = found_by(open_pair(tmp_path))
    assert np.abs(found[1] - right[1]).max() > 0.01


def test_a_batch_of_another_length_is_refused(tmp_path):
    saved_siglip(tmp_path)
    tower = open_text(tmp_path)
    for ids in (IDS[:, :-1], np.pad(IDS, ((0, 0), (0, 1))), IDS[0]):
        with pytest.raises(ValueError, match=r"expected \[batch, 7\]"):
            tower.network.apply(tower.read(), ids)
    with pytest.raises(ValueError, match="float32; expected integers"):
        tower.network.apply(tower.read(), IDS.astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "config", "family", "width"),
    [
        ("CLIPTextModel", "CLIPTextConfig", "clip", 24),
        ("CLIPTextModelWithProjection", "CLIPTextConfig", "clip", 16),
        ("SiglipTextModel", "SiglipTextConfig", "siglip", 20),
    ],
)
def test_a_text_tower_alone_gives_the_same_embedding(tmp_path, kind, config, family, width):
    choices = dict(projection_size=20) if family == "siglip" else dict(projection_dim=16)
    made = getattr(transformers, config)(**TEXT, **choices, eos_token_id=EOS)
    model = saved_by_transformers(tmp_path, kind, made)
    tower = open_text(tmp_path)
    assert tower.family == family
    found = tower.network.apply(tower.read(), IDS)
    with torch.no_grad():
        told = model(input_ids=torch.tensor(IDS, dtype=torch.long))
    wanted = told.text_embeds if kind.endswith("Projection") else told.pooler_output
    assert found.embedding.shape == (4, width)
    np.testing.assert_allclose(found.embedding, wanted, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.tokens, told.last_hidden_state, rtol=0, atol=2e-5)
    with pytest.raises(UserError, match="has no image tower"):
        open_pair(tmp_path)
    with pytest.raises(UserError, match="has model_type"):
        open_published(tmp_path)


def test_an_image_tower_alone_is_no_pair(tmp_path):
    saved_by_transformers(tmp_path, "SiglipVisionModel", transformers.SiglipVisionConfig(**IMAGE))
    with pytest.raises(UserError, match="has no text tower"):
        open_pair(tmp_path)
    with pytest.raises(UserError, match="holds no text tower"):
        open_text(tmp_path)


@pytest.mark.parametrize("kind", TEXT_TYPES)
def test_what_config_json_leaves_out_is_the_default_of_its_class(kind):
    default = transformers.AutoConfig.for_model(kind)
    projection = {"clip": default.projection_dim} if kind == "clip" else {}
    default = getattr(default, "text_config", default)

    class File:
        path = "model.safetensors"
        tensors = dict.fromkeys(("text_projection.weight", "text_model.head.weight"))

    sections = [{}, {"text_config": {"model_type": "any"}}] if "text" not in kind else [{}]
    for section in sections:
        settings = Settings({"model_type": kind} | section, "config.json")
        config = describe_text(File(), settings).config
        assert config.vocab == default.vocab_size
        assert config.length == default.max_position_embeddings
        assert config.width == default.hidden_size
        assert config.depth == default.num_hidden_layers
        assert config.heads == default.num_attention_heads
        assert config.mlp_dim == default.intermediate_size
        assert config.norm_epsilon == default.layer_norm_eps
        names = {"quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
        assert config.activation == names[default.hidden_act]
        if kind.startswith("clip"):
            assert config.eos_id == default.eos_token_id
            assert config.embed_dim == projection.get("clip", default.projection_dim)
        else:
            assert config.embed_dim == default.projection_size


def test_a_sparse_config_is_read_as_transformers_reads_it(tmp_path):
    """As SigLIP 2's are published; the towers it describes are too large to be made here."""
    config = {
        "model_type": "siglip",
        "text_config": {"model_type": "siglip_text_model", "vocab_size": 256000},
        "vision_config": {"model_type": "siglip_vision_model", "patch_size": 32},
    }
    saved_siglip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as refused:
        open_text(tmp_path)
    assert "width 768 and depth 12" in str(refused.value)
    assert "text_model.embeddings.token_embedding.weight is [50, 24]; expected [256000, 768]" in (
        str(refused.value)
    )


def test_older_files_of_clip_are_read_as_transformers_reads_them(tmp_path):
    model = saved_clip(tmp_path, act="quick_gelu")
    config = json.loads((tmp_path / "config.json").read_text())
    # Where both are said, transformers takes the first, with the defaults of its class.
    for tower in ("text", "vision"):
        said = {k: v for k, v in config[f"{tower}_config"].items() if k != "hidden_act"}
        config[f"{tower}_config_dict"] = said
        config[f"{tower}_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = transformers.CLIPModel.from_pretrained(tmp_path)
    assert read.config.text_config.hidden_act == "quick_gelu"
    found, images = found_by(open_pair(tmp_path))
    assert_same(found, told_by(model, images))


def test_a_tower_at_another_resolution_leaves_the_text_tower_alone(tmp_path):
    model = saved_clip(tmp_path)
    pair = open_pair(tmp_path, image_size=64)
    assert pair.network.config.image_shape == (64, 64, 3)
    (embedded, texts, _), images = found_by(pair)
    with torch.no_grad():
        told = model(
            input_ids=torch.tensor(IDS, dtype=torch.long),
            pixel_values=torch.tensor(images.transpose(0, 3, 1, 2)),
            interpolate_pos_encoding=True,
        )
    np.testing.assert_allclose(embedded, told.image_embeds, rtol=0, atol=2e-5)
    np.testing.assert_allclose(texts, told.text_embeds, rtol=0, atol=2e-5)


def test_a_text_tower_without_a_head_is_no_error(tmp_path):
    """As the multilingual So400m is: its text tower is as wide as its image tower."""
    text = dict(hidden_size=32, num_attention_heads=4, projection_size=32)
    model = saved_siglip(tmp_path, **text)
    changed(tmp_path, {"text_model.head.weight": None, "text_model.head.bias": None})
    with torch.no_grad():
        model.text_model.head.weight.copy_(torch.eye(32))
        model.text_model.head.bias.zero_()
    pair = open_pair(tmp_path)
    assert pair.network.config.text.embed_dim == 0
    found, images = found_by(pair)
    assert_same(found, told_by(model, images))


def test_towers_that_do_not_fit_are_refused(tmp_path):
    saved_siglip(tmp_path)
    changed(tmp_path, {"text_model.head.weight": None, "text_model.head.bias": None})
    with pytest.raises(UserError, match="images have embeddings of 32 and texts of 24"):
        open_pair(tmp_path)


@pytest.mark.parametrize(
    ("save", "changes", "message"),
    [
        (saved_clip, {"logit_scale": None}, "logit_scale is missing"),
        (saved_clip, {"visual_projection.weight": None}, "visual_projection.weight is missing"),
        (saved_clip, {"text_projection.weight": None}, "text_projection.weight is missing"),
        (saved_siglip, {"logit_bias": None}, "logit_bias is missing"),
        (saved_siglip, {"text_model.head.bias": None}, "head.bias is missing"),
        (
            saved_siglip,
            {"text_model.embeddings.position_embedding.weight": np.zeros((6, 24), np.float32)},
            r"position_embedding.weight is \[6, 24\]; expected \[7, 24\]",
        ),
        (
            saved_clip,
            {"text_model.extra": np.zeros(3, np.float32)},
            r"text_model.extra \[3\] belongs to nothing in the model",
        ),
        (
            saved_clip,
            {"vision_model.extra": np.zeros(3, np.float32)},
            r"vision_model.extra \[3\] belongs to nothing in the model",
        ),
        (
            saved_clip,
            {"extra": np.zeros(3, np.float32)},
            r"extra \[3\] belongs to nothing in the model",
        ),
        (
            saved_clip,
            {"text_projection.bias": np.zeros(16, np.float32)},
            r"text_projection.bias \[16\] belongs to nothing in the model",
        ),
    ],
)
def test_tensors_that_are_missing_misshapen_or_unknown_are_named(tmp_path, save, changes, message):
    save(tmp_path)
    changed(tmp_path, changes)
    with pytest.raises(UserError, match=message):
        open_pair(tmp_path)


def test_numbers_that_are_not_finite_are_named(tmp_path):
    saved_clip(tmp_path)
    changed(tmp_path, {"logit_scale": np.array(np.nan, np.float32)})
    with pytest.raises(UserError, match="logit_scale has 1 of 1 values that are not finite"):
        open_pair(tmp_path).read()


def test_naflex_is_refused_with_what_can_be_read(tmp_path):
    saved_siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "siglip2"}))
    for opening in (open_pair, open_text, open_published):
        with pytest.raises(UserError, match=r"NaFlex.*expected a SigLIP 2 of one resolution"):
            opening(tmp_path)


def test_bfloat16_leaves_the_scale_and_the_bias_as_they_are(tmp_path):
    model = saved_siglip(tmp_path)
    params = open_pair(tmp_path).read("bfloat16")
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves((params["image"], params["text"]))}
    assert kinds == {"bfloat16"}
    for name, wanted in {"temperature": model.logit_scale, "bias": model.logit_bias}.items():
        assert params[name].dtype == np.float32
        assert params[name].shape == ()
        assert params[name] == wanted.item()
