"""The .npz files of big_vision and vision_transformer: ViT, AugReg, FlexiViT, SigLIP, SigLIP 2.

arXiv 2010.11929, 2106.10270, 2212.08013, 2303.15343, 2502.14786. FlexiViT is read as a ViT at the
patch size that is stored.
"""

import math
import re
from typing import NamedTuple

from distill.evaluation_view import EvaluationView
from distill.names import big_vision as names
from distill.nn import TextConfig
from distill.tensor_files import Shape, TensorFile
from teachers.pretrained.match import (
    Description,
    JointDescription,
    TextDescription,
    blame,
    configure,
)
from teachers.pretrained.normalisation import HALF
from teachers.pretrained.settings import shape_of

# An image tower beside a text tower, a checkpoint with its optimiser, a model alone.
_PREFIXES = ("params/img/", "img/", "opt/target/", "params/", "")
_IGNORED = (r"opt/.*", r"(params/)?(txt/.*|t|b)")
_TEXT_PREFIXES = ("params/txt/", "txt/", "params/", "")
_TEXT_IGNORED = (r"opt/.*", r"(params/)?(img/.*|t|b)")


def recognises(file: TensorFile) -> bool:
    """Whether the names are those of big_vision or vision_transformer."""
    return _prefix(file) is not None


def describe(file: TensorFile) -> Description:
    """The model in the file, of which its tensors say everything.

    Raises:
      UserError: if those that say how large it is are not there.
    """
    prefix = _prefix(file) or ""
    tensors = {name.removeprefix(prefix) for name in file.tensors}

    def shape(name: str, rank: int) -> Shape:
        return shape_of(file, prefix + name, rank)

    patch, _, channels, width = shape("embedding/kernel", 4)
    parts = names.BIG_VISION
    if any(f"/{names.VISION_TRANSFORMER[3]}/" in name for name in tensors):
        parts = names.VISION_TRANSFORMER
    layers = _layers(file, prefix, "Transformer", parts)
    head = "map" if "MAPHead_0/probe" in tensors else "cls" if "cls" in tensors else "gap"
    positions = names.WITH_CLASS_TOKEN if names.WITH_CLASS_TOKEN in tensors else names.WITHOUT
    prefix_positions = int(positions == names.WITH_CLASS_TOKEN and head == "cls")
    learned = positions in tensors
    rows = math.isqrt(max(shape(positions, 3)[1] - prefix_positions, 0)) if learned else 0
    # The head of an image tower projects to what texts are compared with: no classes.
    tower = prefix.endswith("img/")
    classes = 0 if tower or "head/kernel" not in tensors else shape("head/kernel", 2)[1]
    return Description(
        config=configure(
            file.path,
            width=width,
            depth=layers.depth,
            mlp_dim=layers.mlp_dim,
            heads=layers.heads,
            patch_size=patch,
            image_size=rows * patch if learned else 224 // patch * patch,
            channels=channels,
            num_classes=classes,
            head=head,
            position_embedding="learned" if learned else "sincos2d",
            **HALF,
        ),
        rules=names.table(layers.block, parts, positions, prefix=bool(prefix_positions)),
        ignored=(*_IGNORED, r"head/.*") if tower else _IGNORED,
        prefix=prefix,
        prefix_positions=prefix_positions,
        # How big_vision evaluates them: towers on the whole image.
        view=EvaluationView(crop=1.0, resize="squash") if tower else EvaluationView(),
    )


def holds_text(file: TensorFile) -> bool:
    """Whether there is a text tower with big_vision's names."""
    return _text_prefix(file) is not None


def describe_text(file: TensorFile) -> TextDescription:
    """The text tower in the file, of which its tensors say everything but how it pools.

    Without a MAP head, the last position stands for the text, as in all that are published.

    Raises:
      UserError: if the tensors that say how large it is are not there.
    """
    prefix = _text_prefix(file) or ""

    def has(name: str) -> bool:
        return prefix + name in file.tensors

    vocab, width = shape_of(file, f"{prefix}Embed_0/embedding", 2)
    layers = _layers(file, prefix, "Encoder_0", names.BIG_VISION)
    with blame(file.path):
        config = TextConfig(
            vocab=vocab,
            length=shape_of(file, f"{prefix}pos_embedding", 3)[1],
            width=width,
            depth=layers.depth,
            mlp_dim=layers.mlp_dim,
            heads=layers.heads,
            pool="map" if has("MAPHead_0/probe") else "last",
            embed_dim=shape_of(file, f"{prefix}head/kernel", 2)[1] if has("head/kernel") else 0,
        )
    return TextDescription(
        config=config,
        family="siglip",
        rules=names.text_table(layers.block),
        ignored=_TEXT_IGNORED,
        prefix=prefix,
        added_positions=has("Encoder_0/pos_embedding"),
    )


def describe_joint(file: TensorFile) -> JointDescription:
    """What the pair in the file has beside its towers."""
    base = (_text_prefix(file) or "").removesuffix("txt/")
    return JointDescription(
        projection=f"{base}img/head/kernel" in file.tensors,
        projection_bias=f"{base}img/head/bias" in file.tensors,
        bias=f"{base}b" in file.tensors,
        rules=names.joint_table(base),
        ignored=(r"opt/.*", r"(params/)?(img|txt)/.*"),
    )


def _text_prefix(file: TensorFile) -> str | None:
    return next((p for p in _TEXT_PREFIXES if f"{p}Embed_0/embedding" in file.tensors), None)


class _Layers(NamedTuple):
    block: str
    """What a layer is called, as `distill.names.big_vision.table` has it."""
    depth: int
    mlp_dim: int
    heads: int


def _layers(file: TensorFile, prefix: str, encoder: str, parts: tuple[str, ...]) -> _Layers:
    """What an encoder's tensors say of its layers."""
    block = f"{encoder}/encoderblock"
    # big_vision may stack the layers, as this project does.
    stacked = f"{prefix}{block}/LayerNorm_0/scale" in file.tensors
    first = prefix + block + ("" if stacked else "_0")
    if stacked:
        depth = shape_of(file, f"{first}/LayerNorm_0/scale", 2)[0]
    else:
        numbered = re.compile(re.escape(prefix + block) + r"_(\d+)/.*")
        depth = len({found[1] for name in file.tensors if (found := numbered.fullmatch(name))})
    return _Layers(
        block if stacked else f"{block}_#",
        depth,
        mlp_dim=shape_of(file, f"{first}/{parts[3]}/Dense_0/kernel", 2 + stacked)[-1],
        heads=shape_of(file, f"{first}/{parts[1]}/query/kernel", 3 + stacked)[-2],
    )


def _prefix(file: TensorFile) -> str | None:
    return next((p for p in _PREFIXES if f"{p}embedding/kernel" in file.tensors), None)
