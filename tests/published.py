"""What tests of published weights share: real images, and files as their authors write them."""

import json

import jax
import numpy as np
from sklearn.datasets import load_sample_image

from distill.nn import ViTOutput
from distill.nn.preprocess import prepare_images
from teachers.pretrained import open_published

# Of the models of `big_vision_arrays`, and the names of a block's parts.
WIDTH, DEPTH, MLP, HEADS, PATCH, ROWS, CLASSES = 24, 2, 40, 3, 8, 4, 5
STYLES = {
    "big_vision": ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"),
    "original": ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"),
}


def real_images(height: int, width: int | None = None) -> np.ndarray:
    """Two photographs, [2, height, width, 3] float32 in [0, 255]."""
    photographs = np.stack([load_sample_image(name) for name in ("china.jpg", "flower.jpg")])
    shape = (2, height, width or height, 3)
    return np.asarray(jax.image.resize(photographs.astype(np.float32), shape, "bilinear"))


def outputs(path, **choices) -> tuple[ViTOutput, np.ndarray]:
    """What the model in a file makes of real images, and these as it was fed with them."""
    model = open_published(path, **choices)
    config = model.network.config
    images = prepare_images(
        real_images(*config.image_shape[:2]), config.image_shape[:2], config.mean, config.std
    )
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.network.apply)(model.read(), images)
    return found, np.asarray(images)


def assert_equal(found, wanted) -> None:
    """To 1e-4, or as much relative to the largest value."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * scale)


class Drawn:
    """Random arrays in Flax's names and layout."""

    def __init__(self, width, seed=0):
        self.width, self.arrays = width, {}
        self.rng = np.random.default_rng(seed)

    def draw(self, name, *shape):
        values = 0.3 * self.rng.standard_normal(shape)
        self.arrays[name] = (values + name.endswith("scale")).astype(np.float32)

    def attention(self, name):
        split = HEADS, self.width // HEADS
        for part in ("query", "key", "value"):
            self.draw(f"{name}/{part}/kernel", self.width, *split)
            self.draw(f"{name}/{part}/bias", *split)
        self.draw(f"{name}/out/kernel", *split, self.width)
        self.draw(f"{name}/out/bias", self.width)

    def norm(self, name):
        self.draw(f"{name}/scale", self.width)
        self.draw(f"{name}/bias", self.width)

    def mlp(self, name):
        self.draw(f"{name}/Dense_0/kernel", self.width, MLP)
        self.draw(f"{name}/Dense_0/bias", MLP)
        self.draw(f"{name}/Dense_1/kernel", MLP, self.width)
        self.draw(f"{name}/Dense_1/bias", self.width)

    def encoder(self, name, depth, style="big_vision"):
        for layer in range(depth):
            first, attend, second, hidden = STYLES[style]
            block = f"{name}/encoderblock_{layer}"
            self.norm(f"{block}/{first}")
            self.attention(f"{block}/{attend}")
            self.norm(f"{block}/{second}")
            self.mlp(f"{block}/{hidden}")
        self.norm(f"{name}/encoder_norm")

    def map_head(self):
        self.draw("MAPHead_0/probe", 1, 1, self.width)
        self.attention("MAPHead_0/MultiHeadDotProductAttention_0")
        self.norm("MAPHead_0/LayerNorm_0")
        self.mlp("MAPHead_0/MlpBlock_0")

    def head(self, outputs):
        self.draw("head/kernel", self.width, outputs)
        self.draw("head/bias", outputs)


def big_vision_arrays(style, head, *, classes=CLASSES, sincos=False):
    """The arrays of an .npz file of big_vision or vision_transformer, by name."""
    drawn = Drawn(WIDTH)
    drawn.draw("embedding/kernel", PATCH, PATCH, 3, WIDTH)
    drawn.draw("embedding/bias", WIDTH)
    if style == "original":
        front = head == "cls"
        drawn.draw("Transformer/posembed_input/pos_embedding", 1, front + ROWS**2, WIDTH)
    elif not sincos:
        drawn.draw("pos_embedding", 1, ROWS**2, WIDTH)
    drawn.encoder("Transformer", DEPTH, style)
    if head == "cls":
        drawn.draw("cls", 1, 1, WIDTH)
    if head == "map":
        drawn.map_head()
    if classes:
        drawn.head(classes)
    return drawn.arrays


# Of models of transformers.
SIZE = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=48, patch_size=8)
INTERMEDIATE = dict(intermediate_size=72)


def config_of(name, **choices):
    """A small config of transformers."""
    import transformers

    return getattr(transformers, name)(**(SIZE | INTERMEDIATE | choices))


def saved_by_transformers(path, kind, config, seed=0, **files):
    """A model whose every parameter is random, in a directory as transformers writes it."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn_like(parameter) * 0.15
            scales = "norm" in name and name.endswith("weight")
            parameter.copy_(values + 1 if scales or "lambda1" in name else values)
    model.save_pretrained(path)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return model


def saved_by_timm(path, name, **choices):
    """A small model of timm's architecture `name`, every parameter random, as timm publishes it."""
    import torch
    from safetensors.torch import save_file
    from timm_without_torchvision import timm

    torch.manual_seed(0)
    size = dict(img_size=48, patch_size=8, embed_dim=32, depth=2, num_heads=4)
    model = timm.create_model(name, pretrained=False, **(size | choices)).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            values = torch.randn_like(parameter) * 0.15
            scales = "norm" in key and key.endswith("weight")
            parameter.copy_(values + 1 if scales or "gamma" in key else values)
    path.mkdir(exist_ok=True)
    save_file(model.state_dict(), path / "model.safetensors")
    about = {
        "architecture": name,
        "num_classes": model.num_classes,
        "global_pool": model.global_pool,
        "pretrained_cfg": {key: model.pretrained_cfg[key] for key in ("mean", "std")},
    }
    (path / "config.json").write_text(json.dumps(about))
    return model


def timm_arrays():
    """A model of width 32, one layer and four heads in timm's names."""
    rng = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, 32),
        "pos_embed": (1, 5, 32),
        "patch_embed.proj.weight": (32, 3, 8, 8),
        "patch_embed.proj.bias": (32,),
        "blocks.0.norm1.weight": (32,),
        "blocks.0.norm1.bias": (32,),
        "blocks.0.attn.qkv.weight": (96, 32),
        "blocks.0.attn.qkv.bias": (96,),
        "blocks.0.attn.proj.weight": (32, 32),
        "blocks.0.attn.proj.bias": (32,),
        "blocks.0.norm2.weight": (32,),
        "blocks.0.norm2.bias": (32,),
        "blocks.0.mlp.fc1.weight": (64, 32),
        "blocks.0.mlp.fc1.bias": (64,),
        "blocks.0.mlp.fc2.weight": (32, 64),
        "blocks.0.mlp.fc2.bias": (32,),
        "norm.weight": (32,),
        "norm.bias": (32,),
        "head.weight": (3, 32),
        "head.bias": (3,),
    }
    return {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}


class Bomb:
    """What a pickle runs when it is read."""

    def __reduce__(self):
        return (open, ("ran", "w"))
