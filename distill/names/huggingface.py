"""Hugging Face's names for ViT, DeiT, CLIP, SigLIP, DINOv2 and DINOv3: one table for each.

As `transformers` writes them, but for the prefix of a model inside another.
"""

from distill.names.rules import (
    CONVOLUTION,
    FROM_HEADS,
    LINEAR,
    PREFIX_POSITIONS,
    ROWS,
    VECTOR,
    Rule,
    linear,
    norm,
    rule,
)

BLOCK = "encoder/blocks"
_POSITIONS = (PREFIX_POSITIONS, "position/table")


def _block(
    layer: str,
    *,
    norms: tuple[str, str],
    attention: tuple[str, str, str, str],
    mlp: tuple[str, ...],
) -> tuple[Rule, ...]:
    """A block: both norms, query, key, value and out of its attention, its MLP in, out and gate."""
    *qkv, out = attention
    parts = zip(("query", "key", "value"), qkv, strict=True)
    mlp_parts = zip(("input", "output", "gate"), mlp, strict=False)
    return (
        *norm(f"{layer}.{norms[0]}", f"{BLOCK}/attention_norm"),
        *sum((linear(f"{layer}.{t}", f"{BLOCK}/attention/{p}") for p, t in parts), ()),
        *linear(f"{layer}.{out}", f"{BLOCK}/attention/out", layout=FROM_HEADS),
        *norm(f"{layer}.{norms[1]}", f"{BLOCK}/mlp_norm"),
        *sum((linear(f"{layer}.{t}", f"{BLOCK}/mlp/{p}") for p, t in mlp_parts), ()),
        *rule(f"{layer}.layer_scale1.lambda1", VECTOR, f"{BLOCK}/attention_scale/scale"),
        *rule(f"{layer}.layer_scale2.lambda1", VECTOR, f"{BLOCK}/mlp_scale/scale"),
    )


_EMBEDDINGS = (
    *rule("embeddings.cls_token", ROWS, "class_token"),
    *linear("embeddings.patch_embeddings.projection", "patch_embed/linear", layout=CONVOLUTION),
    *rule("embeddings.position_embeddings", ROWS, *_POSITIONS),
)
_ATTENTION = (
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
)
VIT = (
    *_EMBEDDINGS,
    *_block(
        "encoder.layer.#",
        norms=("layernorm_before", "layernorm_after"),
        attention=_ATTENTION,
        mlp=("intermediate.dense", "output.dense"),
    ),
    *norm("layernorm", "encoder/norm"),
    *linear("classifier", "classifier"),
)
DEIT = (
    *VIT,
    *rule("embeddings.distillation_token", ROWS, "registers"),
    *linear("cls_classifier", "classifier"),
    *linear("distillation_classifier", "distillation_classifier"),
)
DINOV2 = (
    *_EMBEDDINGS,
    *rule("embeddings.register_tokens", ROWS, "registers"),
    *_block(
        "encoder.layer.#",
        norms=("norm1", "norm2"),
        attention=_ATTENTION,
        mlp=("mlp.fc1", "mlp.fc2"),
    ),
    *norm("layernorm", "encoder/norm"),
)
DINOV2_SWIGLU = (
    *(one for one in DINOV2 if ".mlp." not in one.tensor),
    *linear("encoder.layer.#.mlp.weights_in", f"{BLOCK}/mlp/gate", f"{BLOCK}/mlp/input"),
    *linear("encoder.layer.#.mlp.weights_out", f"{BLOCK}/mlp/output"),
)
DINOV3 = (
    *rule("embeddings.cls_token", ROWS, "class_token"),
    *rule("embeddings.register_tokens", ROWS, "registers"),
    *linear("embeddings.patch_embeddings", "patch_embed/linear", layout=CONVOLUTION),
    *_block(
        "layer.#",
        norms=("norm1", "norm2"),
        attention=tuple(f"attention.{part}_proj" for part in "qkvo"),
        mlp=("mlp.up_proj", "mlp.down_proj", "mlp.gate_proj"),
    ),
    *norm("norm", "encoder/norm"),
)
_TOWER = (
    *rule("embeddings.class_embedding", ROWS, "class_token"),
    *linear("embeddings.patch_embedding", "patch_embed/linear", layout=CONVOLUTION),
    *norm("pre_layrnorm", "pre_norm"),
    *_block(
        "encoder.layers.#",
        norms=("layer_norm1", "layer_norm2"),
        attention=tuple(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")),
        mlp=("mlp.fc1", "mlp.fc2"),
    ),
    *norm("post_layernorm", "encoder/norm"),
    *linear("classifier", "classifier"),
)
CLIP = (*_TOWER, *rule("embeddings.position_embedding.weight", ROWS, *_POSITIONS))
_PROBE = tuple(f"head/attention/{part}" for part in ("query", "key", "value"))
SIGLIP = (
    *_TOWER,
    *rule("embeddings.position_embedding.weight", ROWS, "position/table"),
    *rule("head.probe", ROWS, "head/probe"),
    *rule("head.attention.in_proj_weight", LINEAR, *(f"{part}/kernel" for part in _PROBE)),
    *rule("head.attention.in_proj_bias", VECTOR, *(f"{part}/bias" for part in _PROBE)),
    *linear("head.attention.out_proj", "head/attention/out", layout=FROM_HEADS),
    *norm("head.layernorm", "head/norm"),
    *linear("head.mlp.fc1", "head/mlp/input"),
    *linear("head.mlp.fc2", "head/mlp/output"),
)
