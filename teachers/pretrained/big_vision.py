"""The .npz files of big_vision and vision_transformer: ViT, AugReg, FlexiViT, SigLIP, SigLIP 2.

arXiv 2010.11929, 2106.10270, 2212.08013, 2303.15343, 2502.14786. FlexiViT is read as a ViT at the
patch size that is stored.
"""

import math
import re

from distill.evaluation_view import EvaluationView
from distill.names import big_vision as names
from distill.tensor_files import Shape, TensorFile
from teachers.pretrained.match import Description, configure
from teachers.pretrained.normalisation import HALF
from teachers.pretrained.settings import shape_of

# An image tower beside a text tower, a checkpoint with its optimiser, a model alone.
_PREFIXES = ("params/img/", "img/", "opt/target/", "params/", "")
_IGNORED = (r"opt/.*", r"(params/)?(txt/.*|t|b)")


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
    # big_vision may stack the layers, as this project does.
    stacked = "Transformer/encoderblock/LayerNorm_0/scale" in tensors
    first = "Transformer/encoderblock" + ("" if stacked else "_0")
    parts = names.VISION_TRANSFORMER
    if f"{first}/{parts[3]}/Dense_0/kernel" not in tensors:
        parts = names.BIG_VISION
    if stacked:
        depth = shape(f"{first}/LayerNorm_0/scale", 2)[0]
    else:
        found = {name.split("/")[1] for name in tensors if name.startswith("Transformer/")}
        depth = sum(re.fullmatch(r"encoderblock_\d+", name) is not None for name in found)
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
            depth=depth,
            mlp_dim=shape(f"{first}/{parts[3]}/Dense_0/kernel", 2 + stacked)[-1],
            heads=shape(f"{first}/{parts[1]}/query/kernel", 3 + stacked)[-2],
            patch_size=patch,
            image_size=rows * patch if learned else 224 // patch * patch,
            channels=channels,
            num_classes=classes,
            head=head,
            position_embedding="learned" if learned else "sincos2d",
            **HALF,
        ),
        rules=names.table(
            "Transformer/encoderblock" + ("" if stacked else "_#"),
            parts,
            positions,
            prefix=bool(prefix_positions),
        ),
        ignored=(*_IGNORED, r"head/.*") if tower else _IGNORED,
        prefix=prefix,
        prefix_positions=prefix_positions,
        # How big_vision evaluates them: towers on the whole image.
        view=EvaluationView(crop=1.0, resize="squash") if tower else EvaluationView(),
    )


def _prefix(file: TensorFile) -> str | None:
    return next((p for p in _PREFIXES if f"{p}embedding/kernel" in file.tensors), None)
