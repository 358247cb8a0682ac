"""The names of big_vision and vision_transformer for ViT, and big_vision's for text towers."""

from distill.names.rules import (
    ADDED_POSITIONS,
    PREFIX_POSITIONS,
    ROWS,
    SAME,
    VECTOR,
    Rule,
    flax,
    rule,
)

# What follows each other in a block: norm and attention, norm and MLP.
BIG_VISION = ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
VISION_TRANSFORMER = ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
# The position embedding: with the class token's in vision_transformer, without in big_vision.
POSITIONS = WITH_CLASS_TOKEN, WITHOUT = "Transformer/posembed_input/pos_embedding", "pos_embedding"


def table(block: str, parts: tuple[str, ...], positions: str, *, prefix: bool) -> tuple[Rule, ...]:
    """The table of a model.

    Args:
      block: what a layer is called, with # for its number where layers are not stacked.
      parts: what is called how in a block, `BIG_VISION` or `VISION_TRANSFORMER`.
      positions: what the position embedding is called, one of `POSITIONS`.
      prefix: whether the class token has a position.
    """
    front = (PREFIX_POSITIONS,) if prefix else ()
    return (
        *rule("cls", SAME, "class_token"),
        *rule(positions, ROWS, *front, "position/table"),
        *flax("embedding", "patch_embed/linear", "kernel", "bias"),
        *_block(block, parts),
        *flax("Transformer/encoder_norm", "encoder/norm", "scale", "bias"),
        *_map_head("head"),
        *flax("head", "classifier", "kernel", "bias"),
    )


def text_table(block: str) -> tuple[Rule, ...]:
    """The table of a text tower, whose layers are called `block` as in `table`."""
    return (
        *rule("Embed_0/embedding", SAME, "token_embedding"),
        *rule("pos_embedding", ROWS, "position_embedding"),
        *rule("Encoder_0/pos_embedding", ROWS, ADDED_POSITIONS),
        *_block(block, BIG_VISION),
        *flax("Encoder_0/encoder_norm", "encoder/norm", "scale", "bias"),
        *_map_head("map_head"),
        *flax("head", "head", "kernel", "bias"),
    )


def joint_table(base: str) -> tuple[Rule, ...]:
    """The table of what a pair below `base` has beside its towers."""
    return (
        *flax(f"{base}img/head", "image_projection", "kernel", "bias"),
        *rule(f"{base}t", VECTOR, "temperature"),
        *rule(f"{base}b", VECTOR, "bias"),
    )


def _block(block: str, parts: tuple[str, ...]) -> tuple[Rule, ...]:
    norm, attention, second_norm, mlp = (f"{block}/{part}" for part in parts)
    return (
        *flax(norm, "encoder/blocks/attention_norm", "scale", "bias"),
        *_attention(attention, "encoder/blocks/attention"),
        *flax(second_norm, "encoder/blocks/mlp_norm", "scale", "bias"),
        *_mlp(mlp, "encoder/blocks/mlp"),
    )


def _map_head(parameter: str) -> tuple[Rule, ...]:
    return (
        *rule("MAPHead_0/probe", SAME, f"{parameter}/probe"),
        *_attention("MAPHead_0/MultiHeadDotProductAttention_0", f"{parameter}/attention"),
        *flax("MAPHead_0/LayerNorm_0", f"{parameter}/norm", "scale", "bias"),
        *_mlp("MAPHead_0/MlpBlock_0", f"{parameter}/mlp"),
    )


def _attention(tensor: str, parameter: str) -> tuple[Rule, ...]:
    parts = ("query", "key", "value", "out")
    return sum(
        (flax(f"{tensor}/{part}", f"{parameter}/{part}", "kernel", "bias") for part in parts), ()
    )


def _mlp(tensor: str, parameter: str) -> tuple[Rule, ...]:
    return (
        *flax(f"{tensor}/Dense_0", f"{parameter}/input", "kernel", "bias"),
        *flax(f"{tensor}/Dense_1", f"{parameter}/output", "kernel", "bias"),
    )
