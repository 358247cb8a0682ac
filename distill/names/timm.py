"""timm's names for its `VisionTransformer`: ViT, DeiT, CLIP, SigLIP and DINOv2."""

from distill.names.rules import (
    CONVOLUTION,
    FROM_HEADS,
    PREFIX_POSITIONS,
    ROWS,
    VECTOR,
    Rule,
    linear,
    norm,
    rule,
)

_BLOCK = "encoder/blocks"


def table(
    *, prefix_positions: int = 0, distilled: bool = False, gated: bool = False
) -> tuple[Rule, ...]:
    """The table of a model.

    Args:
      prefix_positions: how many tokens in front of the patches have a position.
      distilled: whether the register is DeiT's distillation token.
      gated: whether the first of the MLP's linear maps is both gate and input.
    """
    front = (PREFIX_POSITIONS,) if prefix_positions else ()
    hidden = (f"{_BLOCK}/mlp/gate",) if gated else ()
    qkv = tuple(f"{_BLOCK}/attention/{part}" for part in ("query", "key", "value"))
    return (
        *rule("cls_token", ROWS, "class_token"),
        *rule("dist_token" if distilled else "reg_token", ROWS, "registers"),
        *rule("pos_embed", ROWS, *front, "position/table"),
        *linear("patch_embed.proj", "patch_embed/linear", layout=CONVOLUTION),
        *norm("norm_pre", "pre_norm"),
        *norm("blocks.#.norm1", f"{_BLOCK}/attention_norm"),
        *linear("blocks.#.attn.qkv", *qkv),
        *linear("blocks.#.attn.proj", f"{_BLOCK}/attention/out", layout=FROM_HEADS),
        *rule("blocks.#.ls1.gamma", VECTOR, f"{_BLOCK}/attention_scale/scale"),
        *norm("blocks.#.norm2", f"{_BLOCK}/mlp_norm"),
        *linear("blocks.#.mlp.fc1", *hidden, f"{_BLOCK}/mlp/input"),
        *linear("blocks.#.mlp.fc2", f"{_BLOCK}/mlp/output"),
        *rule("blocks.#.ls2.gamma", VECTOR, f"{_BLOCK}/mlp_scale/scale"),
        *norm("norm", "encoder/norm"),
        *rule("attn_pool.latent", ROWS, "head/probe"),
        *linear("attn_pool.q", "head/attention/query"),
        *linear("attn_pool.kv", "head/attention/key", "head/attention/value"),
        *linear("attn_pool.proj", "head/attention/out", layout=FROM_HEADS),
        *norm("attn_pool.norm", "head/norm"),
        *linear("attn_pool.mlp.fc1", "head/mlp/input"),
        *linear("attn_pool.mlp.fc2", "head/mlp/output"),
        *linear("head", "classifier"),
        *linear("head_dist", "distillation_classifier"),
    )
