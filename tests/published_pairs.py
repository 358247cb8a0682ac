"""Small pairs as transformers writes them, and what they make of images and texts."""

import math

import jax
import numpy as np
from published import real_images, saved_by_transformers

from distill.nn import Pair

IMAGE = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=72,
    image_size=48,
    patch_size=8,
)
# Another width than the image tower's and than the head's.
TEXT = dict(
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=40,
    vocab_size=50,
    max_position_embeddings=7,
)
EOS = 49
# Texts that end before they are full, and one that is; what follows the end is no zero.
IDS = np.array(
    [
        [48, 3, 5, EOS, 1, 1, 1],
        [48, 7, 2, 9, 11, 4, EOS],
        [48, EOS, 0, 0, 0, 0, 0],
        [48, 12, EOS, EOS, EOS, EOS, EOS],
    ],
    np.int32,
)


def saved_clip(path, *, eos=EOS, act="quick_gelu"):
    """A pair of CLIP's."""
    import transformers

    config = transformers.CLIPConfig(
        vision_config=IMAGE | dict(hidden_act=act),
        text_config=TEXT | dict(hidden_act=act, eos_token_id=eos),
        projection_dim=16,
    )
    return scaled(path, saved_by_transformers(path, "CLIPModel", config), 100.0)


def saved_siglip(path, **text):
    """A pair of SigLIP's, whose text tower's head is as wide as its image tower."""
    import transformers

    config = transformers.SiglipConfig(
        vision_config=IMAGE, text_config=TEXT | dict(projection_size=32) | text
    )
    model = saved_by_transformers(path, "SiglipModel", config)
    return scaled(path, model, 110.0, bias=-12.5)


def scaled(path, model, scale, bias=None):
    """With the scale and bias of a trained pair."""
    import torch

    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
        if bias is not None:
            model.logit_bias.fill_(bias)
    model.save_pretrained(path)
    return model


def images_of(network):
    return np.asarray(network.prepare(real_images(*network.config.image_shape[:2])))


def found_by(pair, ids=IDS):
    """Embeddings of real images and texts, and their similarities."""
    network, params = pair.network, pair.read()
    images = images_of(network)
    with jax.default_matmul_precision("highest"):
        return (
            network.apply(params, images, method=Pair.embed_images),
            network.apply(params, ids, method=Pair.embed_texts),
            network.apply(params, images, ids, method=Pair.compare),
        ), images


def told_by(model, images, ids=IDS):
    """The same of transformers."""
    import torch

    pixels = torch.tensor(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        told = model(input_ids=torch.tensor(ids, dtype=torch.long), pixel_values=pixels)
    return told.image_embeds, told.text_embeds, told.logits_per_image


def assert_same(found, told):
    for ours, theirs, tolerance in zip(found, told, (2e-5, 2e-5, 2e-3), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    # Images and texts that all embed alike would be the same under any model.
    assert np.std(found[2]) > 0.1


def changed(path, changes):
    """Replaces or takes away (None) tensors of a directory."""
    from safetensors.numpy import load_file, save_file

    file = path / "model.safetensors"
    tensors = load_file(file) | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, file)
