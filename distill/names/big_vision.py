"""The names of big_vision and vision_transformer for their ViT."""

from distill.names.rules import PREFIX_POSITIONS, ROWS, SAME, Rule, flax, rule

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
    norm, attention, second_norm, mlp = (f"{block}/{part}" for part in parts)
    front = (PREFIX_POSITIONS,) if prefix else ()
    return (
        *rule("cls", SAME, "class_token"),
        *rule(positions, ROWS, *front, "position/table"),
        *flax("embedding", "patch_embed/linear", "kernel", "bias"),
        *flax(norm, "encoder/blocks/attention_norm", "scale", "bias"),
        *_attention(attention, "encoder/blocks/attention"),
        *flax(second_norm, "encoder/blocks/mlp_norm", "scale", "bias"),
        *_mlp(mlp, "encoder/blocks/mlp"),
        *flax("Transformer/encoder_norm", "encoder/norm", "scale", "bias"),
        *rule("MAPHead_0/probe", SAME, "head/probe"),
        *_attention("MAPHead_0/MultiHeadDotProductAttention_0", "head/attention"),
        *flax("MAPHead_0/LayerNorm_0", "head/norm", "scale", "bias"),
        *_mlp("MAPHead_0/MlpBlock_0", "head/mlp"),
        *flax("head", "classifier", "kernel", "bias"),
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
