"""Hugging Face's names for ViT, DeiT, CLIP, SigLIP, DINOv2 and DINOv3: one table for each tower.

As `transformers` writes them, but for the prefix of a model inside another.
"""

from distill.names.rules import (
    CONVOLUTION,
    FROM_HEADS,
    LINEAR,
    PREFIX_POSITIONS,
    ROWS,
    SAME,
    TABLE,
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
# What transformers 5 calls layers in memory, and writes under the names that files have.
_ATTENTION_IN_MEMORY = (
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.o_proj",
)
IN_MEMORY = "attention.q_proj.weight"
"""Of a layer, where names are those that transformers 5 has in memory."""


def vit(*, in_memory: bool = False) -> tuple[Rule, ...]:
    """The table of ViT."""
    return (
        *_EMBEDDINGS,
        *_block(
            "layers.#" if in_memory else "encoder.layer.#",
            norms=("layernorm_before", "layernorm_after"),
            attention=_ATTENTION_IN_MEMORY if in_memory else _ATTENTION,
            mlp=("mlp.fc1", "mlp.fc2") if in_memory else ("intermediate.dense", "output.dense"),
        ),
        *norm("layernorm", "encoder/norm"),
        *linear("classifier", "classifier"),
    )


def deit(*, in_memory: bool, distilled: bool) -> tuple[Rule, ...]:
    """The table of DeiT, whose distillation token may have a classifier of its own."""
    heads = (
        *linear("cls_classifier", "classifier"),
        *linear("distillation_classifier", "distillation_classifier"),
    )
    return (
        *(
            one
            for one in vit(in_memory=in_memory)
            if not (distilled and one.tensor.startswith("classifier."))
        ),
        *rule("embeddings.distillation_token", ROWS, "registers"),
        *(heads if distilled else ()),
    )


def dinov2(*, in_memory: bool, swiglu: bool) -> tuple[Rule, ...]:
    """The table of DINOv2, whose MLP may have a gate, in one matrix with its input in files."""
    layer, gated = "encoder.layer.#", ("mlp.up_proj", "mlp.down_proj", "mlp.gate_proj")
    table = (
        *_EMBEDDINGS,
        *rule("embeddings.register_tokens", ROWS, "registers"),
        *_block(
            layer,
            norms=("norm1", "norm2"),
            attention=_ATTENTION_IN_MEMORY if in_memory else _ATTENTION,
            mlp=gated if swiglu else ("mlp.fc1", "mlp.fc2"),
        ),
        *norm("layernorm", "encoder/norm"),
    )
    if in_memory or not swiglu:
        return table
    return (
        *(one for one in table if ".mlp." not in one.tensor),
        *linear(f"{layer}.mlp.weights_in", f"{BLOCK}/mlp/gate", f"{BLOCK}/mlp/input"),
        *linear(f"{layer}.mlp.weights_out", f"{BLOCK}/mlp/output"),
    )


def dinov3(*, in_memory: bool) -> tuple[Rule, ...]:
    """The table of DINOv3."""
    return (
        *rule("embeddings.cls_token", ROWS, "class_token"),
        *rule("embeddings.register_tokens", ROWS, "registers"),
        *linear("embeddings.patch_embeddings", "patch_embed/linear", layout=CONVOLUTION),
        *_block(
            "model.layer.#" if in_memory else "layer.#",
            norms=("norm1", "norm2"),
            attention=_ATTENTION_IN_MEMORY,
            mlp=("mlp.up_proj", "mlp.down_proj", "mlp.gate_proj"),
        ),
        *norm("norm", "encoder/norm"),
    )


# Of both towers of a pair.
_LAYERS = _block(
    "encoder.layers.#",
    norms=("layer_norm1", "layer_norm2"),
    attention=(
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
    ),
    mlp=("mlp.fc1", "mlp.fc2"),
)
_TOWER = (
    *rule("embeddings.class_embedding", VECTOR, "class_token"),
    *linear("embeddings.patch_embedding", "patch_embed/linear", layout=CONVOLUTION),
    *norm("pre_layrnorm", "pre_norm"),
    *_LAYERS,
    *norm("post_layernorm", "encoder/norm"),
    *linear("classifier", "classifier"),
)
CLIP = (*_TOWER, *rule("embeddings.position_embedding.weight", TABLE, *_POSITIONS))
_PROBE = tuple(f"head/attention/{part}" for part in ("query", "key", "value"))
SIGLIP = (
    *_TOWER,
    *rule("embeddings.position_embedding.weight", TABLE, "position/table"),
    *rule("head.probe", ROWS, "head/probe"),
    *rule("head.attention.in_proj_weight", LINEAR, *(f"{part}/kernel" for part in _PROBE)),
    *rule("head.attention.in_proj_bias", VECTOR, *(f"{part}/bias" for part in _PROBE)),
    *linear("head.attention.out_proj", "head/attention/out", layout=FROM_HEADS),
    *norm("head.layernorm", "head/norm"),
    *linear("head.mlp.fc1", "head/mlp/input"),
    *linear("head.mlp.fc2", "head/mlp/output"),
)
_TEXT_TOWER = (
    *rule("embeddings.token_embedding.weight", SAME, "token_embedding"),
    *rule("embeddings.position_embedding.weight", SAME, "position_embedding"),
    *_LAYERS,
    *norm("final_layer_norm", "encoder/norm"),
)
CLIP_TEXT = (*_TEXT_TOWER, *rule("text_projection.weight", LINEAR, "head/kernel"))
SIGLIP_TEXT = (*_TEXT_TOWER, *linear("head", "head"))
JOINT = (
    *rule("visual_projection.weight", LINEAR, "image_projection/kernel"),
    *rule("logit_scale", VECTOR, "temperature"),
    *rule("logit_bias", VECTOR, "bias"),
)
"""What a pair has beside its towers."""
