"""Text towers in Hugging Face's safetensors: CLIP's and SigLIP's, in a pair or alone."""

from collections.abc import Callable
from typing import NamedTuple

from distill.names import huggingface as names
from distill.nn import TextConfig
from distill.tensor_files import TensorFile
from teachers.pretrained.huggingface import activation, look_up, refuse_naflex, tower
from teachers.pretrained.match import JointDescription, TextDescription, blame
from teachers.pretrained.settings import Settings

_TEXT, _IMAGE = "text_model.", "vision_model."
_IGNORED = (
    r"vision_model\..*|visual_projection\.weight|logit_scale|logit_bias",
    r"embeddings\.position_ids",
)
# Whoever reads those has seen to it that nothing in them is left over.
_TOWERS = (r"(vision_model|text_model|text_projection)\..*",)
# What OpenAI's published configs say of the end of a text, which is not the id of its token.
_LEGACY_EOS = 2


class TextType(NamedTuple):
    """What a model_type of config.json stands for."""

    describe: Callable[[TensorFile, Settings], TextDescription]
    pair: bool
    """Whether an image tower belongs to it."""


def describe_text(file: TensorFile, settings: Settings) -> TextDescription:
    """The text tower that config.json tells of.

    Raises:
      UserError: if that is none of those known here.
    """
    return look_up(settings, TEXT_TYPES).describe(file, settings)


def towers(file: TensorFile, settings: Settings) -> frozenset[str]:
    """Which towers there are: "image", "text".

    Raises:
      UserError: for models of a kind that is known and cannot be computed.
    """
    refuse_naflex(settings)
    kind = TEXT_TYPES.get(settings.text("model_type"))
    if kind is None:
        return frozenset(["image"])
    if not kind.pair:
        return frozenset(["text"])
    starts = {"image": _IMAGE, "text": _TEXT}
    return frozenset(
        name
        for name, start in starts.items()
        if any(tensor.startswith(start) for tensor in file.tensors)
    )


def describe_joint(settings: Settings) -> JointDescription:
    """What the pair that config.json tells of has beside its towers."""
    clip = settings.text("model_type") == "clip"
    return JointDescription(
        projection=clip,
        projection_bias=False,
        bias=not clip,
        rules=names.JOINT,
        ignored=_TOWERS,
    )


def _clip(file: TensorFile, settings: Settings) -> TextDescription:
    text = tower(settings, "text")
    pair = TEXT_TYPES[settings.text("model_type")].pair
    projected = pair or "text_projection.weight" in file.tensors
    eos = text.integer("eos_token_id", 49407)
    with blame(settings.about):
        config = TextConfig(
            vocab=text.integer("vocab_size", 49408),
            length=text.integer("max_position_embeddings", 77),
            width=text.integer("hidden_size", 512),
            depth=text.integer("num_hidden_layers", 12),
            mlp_dim=text.integer("intermediate_size", 2048),
            heads=text.integer("num_attention_heads", 8),
            causal=True,
            pool="argmax" if eos == _LEGACY_EOS else "eos",
            eos_id=eos,
            activation=activation(text, "quick_gelu"),
            norm_epsilon=text.number("layer_norm_eps", 1e-5),
            embed_dim=_projection_dim(settings if pair else text) if projected else 0,
            head_bias=False,
        )
    return TextDescription(
        config=config, family="clip", rules=names.CLIP_TEXT, ignored=_IGNORED, prefix=_TEXT
    )


def _projection_dim(settings: Settings) -> int:
    return settings.integer("projection_dim", 512)


def _siglip(file: TensorFile, settings: Settings) -> TextDescription:
    text = tower(settings, "text")
    width = text.integer("hidden_size", 768)
    # The multilingual So400m has none.
    projected = bool({"head.weight", f"{_TEXT}head.weight"} & file.tensors.keys())
    with blame(settings.about):
        config = TextConfig(
            vocab=text.integer("vocab_size", 32000),
            length=text.integer("max_position_embeddings", 64),
            width=width,
            depth=text.integer("num_hidden_layers", 12),
            mlp_dim=text.integer("intermediate_size", 3072),
            heads=text.integer("num_attention_heads", 12),
            activation=activation(text, "gelu_pytorch_tanh"),
            norm_epsilon=text.number("layer_norm_eps", 1e-6),
            embed_dim=text.integer("projection_size", width) if projected else 0,
        )
    return TextDescription(
        config=config, family="siglip", rules=names.SIGLIP_TEXT, ignored=_IGNORED, prefix=_TEXT
    )


TEXT_TYPES: dict[str, TextType] = {
    "clip": TextType(_clip, pair=True),
    "clip_text_model": TextType(_clip, pair=False),
    "siglip": TextType(_siglip, pair=True),
    "siglip_text_model": TextType(_siglip, pair=False),
}
"""By the model_type of config.json."""
