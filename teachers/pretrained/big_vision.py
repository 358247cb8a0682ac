"""The .npz files of big_vision and vision_transformer: ViT, AugReg, FlexiViT, SigLIP, SigLIP 2.

arXiv 2010.11929, 2106.10270, 2212.08013, 2303.15343, 2502.14786. FlexiViT is read as a ViT at the
patch size that is stored.
"""

import math

from distill.nn import ViTConfig
from teachers.pretrained.files import Shape, TensorFile, shape_of
from teachers.pretrained.normalisation import HALF
from teachers.pretrained.rules import PREFIX_POSITIONS, ROWS, SAME, Description, Rule, flax, rule

# An image tower beside a text tower, a checkpoint with its optimiser, a model alone.
_PREFIXES = ("params/img/", "img/", "opt/target/", "params/", "")
_IGNORED = (r"opt/.*", r"(params/)?(txt/.*|t|b)")
# Names of what follows each other in a block: norm and attention, norm and MLP.
_BIG_VISION = ("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
_VISION_TRANSFORMER = ("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
# The position embedding: with the class token's in vision_transformer, without in big_vision.
_WITH_CLASS_TOKEN, _WITHOUT = "Transformer/posembed_input/pos_embedding", "pos_embedding"


def recognises(file: TensorFile) -> bool:
    """Whether the names are those of big_vision or vision_transformer."""
    return _prefix(file) is not None


def describe(file: TensorFile) -> Description:
    """The model in the file, of which its tensors say everything.

    Raises:
      UserError: if those that say how large it is are not there.
    """
    prefix = _prefix(file) or ""
    shapes = {name.removeprefix(prefix): shape for name, shape in file.shapes.items()}

    def shape(name: str, rank: int) -> Shape:
        return shape_of(file, prefix + name, rank)

    patch, _, channels, width = shape("embedding/kernel", 4)
    # big_vision may stack the layers, as this project does.
    stacked = "Transformer/encoderblock/LayerNorm_0/scale" in shapes
    first = "Transformer/encoderblock" + ("" if stacked else "_0")
    names = _VISION_TRANSFORMER if f"{first}/MlpBlock_3/Dense_0/kernel" in shapes else _BIG_VISION
    if stacked:
        depth = shape(f"{first}/LayerNorm_0/scale", 2)[0]
    else:
        found = {name.split("/")[1] for name in shapes if name.startswith("Transformer/")}
        depth = sum(name.startswith("encoderblock_") for name in found)
    head = "map" if "MAPHead_0/probe" in shapes else "cls" if "cls" in shapes else "gap"
    positions = _WITH_CLASS_TOKEN if _WITH_CLASS_TOKEN in shapes else _WITHOUT
    prefix_positions = int(positions == _WITH_CLASS_TOKEN and head == "cls")
    learned = positions in shapes
    rows = math.isqrt(max(shape(positions, 3)[1] - prefix_positions, 0)) if learned else 0
    # The head of an image tower projects to what texts are compared with: no classes.
    tower = prefix.endswith("img/")
    classes = 0 if tower or "head/kernel" not in shapes else shape("head/kernel", 2)[1]
    return Description(
        config=ViTConfig(
            width=width,
            depth=depth,
            mlp_dim=shape(f"{first}/{names[3]}/Dense_0/kernel", 2 + stacked)[-1],
            heads=shape(f"{first}/{names[1]}/query/kernel", 3 + stacked)[-2],
            patch_size=patch,
            image_size=rows * patch if learned else 224 // patch * patch,
            channels=channels,
            num_classes=classes,
            head=head,
            position_embedding="learned" if learned else "sincos2d",
            **HALF,
        ),
        rules=_table("Transformer/encoderblock" + ("" if stacked else "_#"), names)
        + rule(
            positions, ROWS, *([PREFIX_POSITIONS] if prefix_positions else []), "position/table"
        ),
        ignored=(*_IGNORED, r"head/.*") if tower else _IGNORED,
        prefix=prefix,
        prefix_positions=prefix_positions,
    )


def _prefix(file: TensorFile) -> str | None:
    return next((p for p in _PREFIXES if f"{p}embedding/kernel" in file.shapes), None)


def _table(block: str, names: tuple[str, ...]) -> tuple[Rule, ...]:
    norm, attention, second_norm, mlp = (f"{block}/{name}" for name in names)
    return (
        *rule("cls", SAME, "class_token"),
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
