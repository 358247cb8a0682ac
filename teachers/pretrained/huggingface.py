"""Hugging Face's safetensors: ViT, DeiT, CLIP and SigLIP vision, DINOv2 and DINOv3.

config.json beside the weights says what the model is, as `transformers` writes it; what it leaves
out are the defaults of its config class.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.names import huggingface as names
from distill.nn import ViTConfig
from distill.nn.layers import Activation
from distill.paths import text_of
from distill.tensor_files import TensorFile
from teachers.pretrained.interpolation import antialiased_bicubic, bicubic
from teachers.pretrained.match import Description, configure, whole_patches
from teachers.pretrained.normalisation import CLIP, HALF, IMAGENET
from teachers.pretrained.processor import read_processor
from teachers.pretrained.settings import Settings, shape_of

Kind = TypeVar("Kind")

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
}
_IMAGE_SIZE = 224
# In the file of a pair of towers; buffers of older files; heads that pool in another way.
_PAIR = (
    r"text_model\..*|text_projection\..*|visual_projection\.weight|logit_scale|logit_bias",
    r"embeddings\.position_ids",
)
_MASK = (r"embeddings\.mask_token",)


def describe(file: TensorFile, settings: Settings) -> Description:
    """The model that config.json tells of, and its processor what it is fed.

    Raises:
      UserError: if that is none of those known here.
    """
    kind = look_up(settings, MODEL_TYPES)
    found = kind.describe(file, settings)
    image_size = tower(settings, "vision").size("image_size") or _IMAGE_SIZE
    fed = read_processor(file.path, kind.processor)
    if fed is None:
        return dataclasses.replace(found, image_size=image_size, view=kind.view)
    config = configure(file.path, **(vars(found.config) | dict(mean=fed.mean, std=fed.std)))
    return dataclasses.replace(
        found, config=config, image_size=fed.image_size or image_size, view=fed.view
    )


def look_up(settings: Settings, kinds: Mapping[str, Kind]) -> Kind:
    """The one of `kinds` that config.json names as model_type.

    Raises:
      UserError: if it is none of them.
    """
    refuse_naflex(settings)
    name = settings.text("model_type")
    if name not in kinds:
        raise UserError(
            f"{settings.about} has model_type {name!r}; expected one of {', '.join(kinds)}"
        )
    return kinds[name]


def refuse_naflex(settings: Settings) -> None:
    """Raises a UserError for SigLIP 2's models of any resolution."""
    name = settings.text("model_type")
    if name.startswith("siglip2"):
        raise UserError(
            f"{settings.about} has model_type {name!r}: a NaFlex model, whose patches follow the "
            "shape of each image, which cannot be computed here; expected a SigLIP 2 of one "
            "resolution, such as siglip2-base-patch16-224, whose model_type is siglip"
        )


def family_of(settings: Settings) -> str | None:
    """The family that config.json names, or None."""
    kind = settings.text("model_type")
    return MODEL_TYPES[kind].family if kind in MODEL_TYPES else None


def _vit(file: TensorFile, settings: Settings) -> Description:
    return Description(
        config=_config(settings, HALF, num_classes=_classes(file, "classifier"), head="cls"),
        rules=names.vit(in_memory=_in_memory(file)),
        ignored=(*_MASK, r"pooler\..*"),
        prefix="vit.",
        prefix_positions=1,
        class_names=_class_names(settings),
        interpolation=bicubic,
    )


def _deit(file: TensorFile, settings: Settings) -> Description:
    distilled = "distillation_classifier.weight" in file.tensors
    classes = _classes(file, "cls_classifier" if distilled else "classifier")
    return Description(
        config=_config(
            settings,
            IMAGENET,
            num_classes=classes,
            head="cls",
            registers=1,
            distilled=distilled,
        ),
        rules=names.deit(in_memory=_in_memory(file), distilled=distilled),
        ignored=(*_MASK, r"pooler\..*"),
        prefix="deit.",
        prefix_positions=2,
        class_names=_class_names(settings),
        interpolation=bicubic,
    )


def _clip(file: TensorFile, settings: Settings) -> Description:
    vision = tower(settings, "vision")
    return Description(
        config=_config(
            vision,
            CLIP,
            patch_size=32,
            layer_norm_eps=1e-5,
            hidden_act="quick_gelu",
            num_classes=0,
            head="cls",
            pre_norm=True,
        ),
        rules=names.CLIP,
        ignored=_PAIR,
        prefix="vision_model.",
        zeros=("patch_embed/linear/bias",),
        prefix_positions=1,
        interpolation=bicubic,
    )


def _siglip(file: TensorFile, settings: Settings) -> Description:
    vision = tower(settings, "vision")
    # The classifier that `transformers` adds reads the mean of the tokens.
    classes = _classes(file, "classifier")
    pooled = not classes and vision.boolean("vision_use_head", True)
    return Description(
        config=_config(
            vision,
            HALF,
            layer_norm_eps=1e-6,
            hidden_act="gelu_pytorch_tanh",
            num_classes=classes,
            head="map" if pooled else "gap",
        ),
        rules=names.SIGLIP,
        ignored=_PAIR if pooled else (*_PAIR, r"head\..*"),
        prefix="vision_model.",
        class_names=_class_names(settings),
        interpolation=bicubic,
    )


def _dinov2(file: TensorFile, settings: Settings) -> Description:
    width = settings.integer("hidden_size", 768)
    mlp_dim = width * settings.integer("mlp_ratio", 4)
    swiglu = settings.boolean("use_swiglu_ffn", False)
    if swiglu:
        mlp_dim = (mlp_dim * 2 // 3 + 7) // 8 * 8
    registers = settings.text("model_type") == "dinov2_with_registers"
    activation: dict[str, Any] = dict(activation="silu") if swiglu else {}
    return Description(
        config=_config(
            settings,
            IMAGENET,
            patch_size=16 if registers else 14,
            layer_norm_eps=1e-6,
            mlp_dim=mlp_dim,
            num_classes=0,
            head="cls",
            registers=settings.integer("num_register_tokens", 4) if registers else 0,
            gated=swiglu,
            layer_scale=True,
            **activation,
        ),
        rules=names.dinov2(in_memory=_in_memory(file), swiglu=swiglu),
        # Its classifier reads class token and patches side by side, which no embedding here is.
        ignored=(*_MASK, r"classifier\..*"),
        prefix="dinov2_with_registers." if registers else "dinov2.",
        prefix_positions=1,
        interpolation=antialiased_bicubic if registers else bicubic,
    )


def _dinov3(file: TensorFile, settings: Settings) -> Description:
    registers = settings.integer("num_register_tokens", 0)
    absent = {"query": True, "key": False, "value": True}
    zeros = [
        f"{names.BLOCK}/attention/{part}/bias"
        for part, default in absent.items()
        if not settings.boolean(f"{part}_bias", default)
    ]
    if not settings.boolean("proj_bias", True):
        zeros.append(f"{names.BLOCK}/attention/out/bias")
    if not settings.boolean("mlp_bias", True):
        zeros.append(f"{names.BLOCK}/mlp/.*/bias")
    return Description(
        config=_config(
            settings,
            IMAGENET,
            hidden_size=384,
            num_attention_heads=6,
            intermediate_size=1536,
            layer_norm_eps=1e-5,
            num_classes=0,
            head="cls",
            registers=registers,
            position_embedding="rotary",
            rotary_base=settings.number("rope_theta", 100.0),
            gated=settings.boolean("use_gated_mlp", False),
            layer_scale=True,
        ),
        rules=names.dinov3(in_memory=any("model.layer." in name for name in file.tensors)),
        ignored=_MASK if registers else (*_MASK, r"embeddings\.register_tokens"),
        prefix="dinov3_vit.",
        zeros=tuple(zeros),
    )


def _config(
    settings: Settings,
    normalisation: dict[str, tuple[float, ...]],
    *,
    hidden_size: int = 768,
    num_attention_heads: int = 12,
    intermediate_size: int = 3072,
    patch_size: int = 16,
    layer_norm_eps: float = 1e-12,
    hidden_act: str = "gelu",
    **choices: Any,
) -> ViTConfig:
    """The configuration of config.json, with its class's defaults and what `choices` say."""
    patch = settings.integer("patch_size", patch_size)
    if not patch:
        raise UserError(f"{settings.about}: patch_size is 0")
    values = dict(
        width=settings.integer("hidden_size", hidden_size),
        depth=settings.integer("num_hidden_layers", 12),
        heads=settings.integer("num_attention_heads", num_attention_heads),
        mlp_dim=settings.integer("intermediate_size", intermediate_size),
        patch_size=patch,
        image_size=whole_patches(settings.size("image_size") or _IMAGE_SIZE, patch),
        channels=settings.integer("num_channels", 3),
        norm_epsilon=settings.number("layer_norm_eps", layer_norm_eps),
        activation=activation(settings, hidden_act),
        qkv_bias=settings.boolean("qkv_bias", True),
    )
    return configure(settings.about, **(values | normalisation | choices))


def _in_memory(file: TensorFile) -> bool:
    """Whether the names are those that transformers 5 has in memory."""
    return any(name.endswith(names.IN_MEMORY) for name in file.tensors)


def activation(settings: Settings, default: str) -> Activation:
    """What hidden_act says, by its name here.

    Raises:
      UserError: if it is none that is known.
    """
    act = settings.text("hidden_act", default)
    if act not in _ACTIVATIONS:
        raise UserError(
            f"{settings.about} has hidden_act {act!r}; expected one of {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[act]


def tower(settings: Settings, name: Literal["vision", "text"]) -> Settings:
    """A tower's part of config.json."""
    # In older files of CLIP; transformers lets it overrule the other, its defaults included.
    keys = [f"{name}_config_dict"] if settings.text("model_type") == "clip" else []
    found = next((key for key in (*keys, f"{name}_config") if key in settings), None)
    return settings if found is None else settings.section(found)


def _classes(file: TensorFile, name: str) -> int:
    """As many as the classifier has rows; 0 without one."""
    weight = f"{name}.weight"
    return shape_of(file, weight, 2)[0] if weight in file.tensors else 0


def _class_names(settings: Settings) -> tuple[str, ...]:
    """The names in id2label, in the order of their numbers, unless they are made up."""
    labels = settings.section("id2label").content
    given = [labels.get(str(number)) for number in range(len(labels))]
    names = tuple(name for name in given if isinstance(name, str))
    made_up = names == tuple(f"LABEL_{number}" for number in range(len(names)))
    if made_up or len(names) < len(given):
        return ()
    try:
        return tuple(map(text_of, names))
    except UserError as error:
        raise UserError(f"{settings.about}: id2label: {error}") from error


Describe = Callable[[TensorFile, Settings], Description]


class ModelType(NamedTuple):
    """What a model_type of config.json stands for."""

    family: str
    describe: Describe
    processor: str
    """The class of its image processor, where no file names another."""
    view: EvaluationView
    """What its models are published with, where no file describes a processor."""


_SQUASHED = EvaluationView(crop=1.0, resize="squash")
_CUT = EvaluationView(crop=1.0, filter="bicubic")
_DEIT = EvaluationView(resize="squash", filter="bicubic")
_SIGLIP = EvaluationView(crop=1.0, resize="squash", filter="bicubic")
_DINOV2 = EvaluationView(filter="bicubic")
MODEL_TYPES: dict[str, ModelType] = {
    "vit": ModelType("vit", _vit, "ViT", _SQUASHED),
    "deit": ModelType("deit", _deit, "DeiT", _DEIT),
    "clip": ModelType("clip", _clip, "CLIP", _CUT),
    "clip_vision_model": ModelType("clip", _clip, "CLIP", _CUT),
    "siglip": ModelType("siglip", _siglip, "Siglip", _SIGLIP),
    "siglip_vision_model": ModelType("siglip", _siglip, "Siglip", _SIGLIP),
    "dinov2": ModelType("dinov2", _dinov2, "Bit", _DINOV2),
    "dinov2_with_registers": ModelType("dinov2", _dinov2, "Bit", _DINOV2),
    "dinov3_vit": ModelType("dinov3", _dinov3, "DINOv3ViT", _SQUASHED),
}
"""By the model_type of config.json."""
