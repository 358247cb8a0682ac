"""The safetensors of timm's `VisionTransformer`: ViT, DeiT, CLIP, SigLIP and DINOv2.

Tensors say how large the model is, but not how many heads it has or which activation: config.json
beside the weights may (`model_args`), or else the widths and names that timm has.
"""

import math
import re
from typing import NamedTuple, cast, get_args

from distill.errors import UserError
from distill.evaluation_view import EvaluationView, Filter, Resize
from distill.names.timm import table
from distill.tensor_files import Shape, TensorFile
from teachers.pretrained.match import Description, configure
from teachers.pretrained.normalisation import CLIP, HALF, IMAGENET
from teachers.pretrained.settings import LARGEST_SIDE, Settings, shape_of

# By width; timm's models of width 1536 differ.
_HEADS = {
    192: 3,
    256: 4,
    320: 5,
    384: 6,
    512: 8,
    640: 10,
    768: 12,
    832: 13,
    896: 14,
    1024: 16,
    1152: 16,
    1280: 16,
    1408: 16,
    1664: 16,
}
# By architecture, where the width does not say it.
_HEADS_OF = {
    r"vit_base_patch16_gap_": 16,
    r"vit_giantopt_patch16_siglip_": 16,
    r"vit_giant_patch14_(reg\d_)?(dinov2|tipsv2)": 24,
}
# Of SigLIP 2; those of SigLIP have the exact GELU.
_TANH = re.compile(
    r"vit_(so400m_patch16|giantopt_patch16|base_patch32|large_patch16)_siglip_(gap_)?(\d+)"
)
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
    "silu": "silu",
}

_RESIZES: dict[str, Resize] = {"center": "shortest", "squash": "squash"}
# Of timm's own transform, where pretrained_cfg leaves something out.
_DEFAULTS = dict(crop_pct=0.875, crop_mode="center", interpolation="bicubic")


def recognises(file: TensorFile) -> bool:
    """Whether the names are those of timm's VisionTransformer."""
    return "blocks.0.attn.qkv.weight" in file.tensors


def describe(file: TensorFile, settings: Settings, heads: int | None) -> Description:
    """The model in the file.

    Raises:
      UserError: if tensors that say how large it is are missing, or nothing says its heads.
    """
    tensors, args = file.tensors, settings.section("model_args")

    def shape(name: str, rank: int) -> Shape:
        return shape_of(file, name, rank)

    width, channels, patch, _ = shape("patch_embed.proj.weight", 4)
    heads = heads or args.integer("num_heads", _heads(settings.text("architecture"), width))
    if not heads:
        raise UserError(
            f"{file.path} does not say how many heads a model of width {width} has; give heads"
        )
    (into, _), (_, mlp_dim) = (
        shape("blocks.0.mlp.fc1.weight", 2),
        shape("blocks.0.mlp.fc2.weight", 2),
    )
    gated = into == 2 * mlp_dim
    distilled = "dist_token" in tensors
    registers = 1 if distilled else shape("reg_token", 3)[1] if "reg_token" in tensors else 0
    head = "map" if "attn_pool.latent" in tensors else "cls" if "cls_token" in tensors else "gap"
    pooling = settings.text("global_pool")
    if pooling not in ("", {"map": "map", "cls": "token", "gap": "avg"}[head]):
        raise UserError(f"{settings.about} has global_pool {pooling!r}, which is not supported")
    prefix_positions, rows = _positions(file, shape("pos_embed", 3)[1], head == "cls", registers)
    pre_norm, scaled = "norm_pre.weight" in tensors, "blocks.0.ls1.gamma" in tensors
    fed = _fed(settings, channels, clip=pre_norm, scaled=scaled, imagenet=distilled or scaled)
    return Description(
        config=configure(
            file.path,
            width=width,
            depth=len({n.split(".")[1] for n in tensors if re.match(r"blocks\.\d+\.", n)}),
            mlp_dim=mlp_dim,
            heads=heads,
            patch_size=patch,
            image_size=rows * patch,
            channels=channels,
            num_classes=shape("head.weight", 2)[0] if "head.weight" in tensors else 0,
            head=head,
            registers=registers,
            distilled=distilled,
            pre_norm=pre_norm,
            qkv_bias="blocks.0.attn.qkv.bias" in tensors,
            norm_epsilon=1e-5 if pre_norm else 1e-6,
            activation=_activation(settings, gated),
            gated=gated,
            layer_scale=scaled,
            mean=fed.mean,
            std=fed.std,
        ),
        rules=table(prefix_positions=prefix_positions, distilled=distilled, gated=gated),
        zeros=("patch_embed/linear/bias",) if pre_norm else (),
        prefix_positions=prefix_positions,
        image_size=fed.image_size,
        view=fed.view,
        class_names=_class_names(settings),
    )


def _heads(architecture: str, width: int) -> int:
    """As many as timm's model has; 0 if that is not known."""
    named = (heads for name, heads in _HEADS_OF.items() if re.match(name, architecture))
    return next(named, _HEADS.get(width, 0))


def _positions(file: TensorFile, tokens: int, class_token: bool, registers: int) -> tuple[int, int]:
    """How many tokens in front have a position, and how many rows of patches there are."""
    for front in sorted({0, int(class_token), class_token + registers}):
        rows = math.isqrt(max(tokens - front, 0))
        if rows and rows**2 == tokens - front:
            return front, rows
    raise UserError(f"{file.path}: pos_embed has {tokens} positions, which make no square")


def _activation(settings: Settings, gated: bool) -> str:
    name = settings.section("model_args").text("act_layer")
    if not name:
        architecture = settings.text("architecture")
        siglip = _TANH.match(architecture)
        name = "quick_gelu" if "quickgelu" in architecture else "gelu"
        # Of the large ones, only that for 512 pixels came with SigLIP 2.
        if siglip and (siglip[1] != "large_patch16" or siglip[3] == "512"):
            name = "gelu_tanh"
        name = "silu" if gated else name
    if name not in _ACTIVATIONS:
        raise UserError(
            f"{settings.about} has act_layer {name!r}; expected one of {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


class _Fed(NamedTuple):
    """How timm's own transform shows images to a model."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: EvaluationView
    image_size: int | tuple[int, int] | None


def _fed(settings: Settings, channels: int, *, clip: bool, scaled: bool, imagenet: bool) -> _Fed:
    """What pretrained_cfg says, with timm's defaults, or else what most models of a kind have.

    Args:
      settings: of config.json.
      channels: that the model takes.
      clip: whether it is CLIP's.
      scaled: whether it has layer scale, as DINOv2 has.
      imagenet: whether it was trained on ImageNet's mean and standard deviation.
    """
    known = _pretrained_cfg(settings)
    if known.content:
        known = known.with_defaults(_DEFAULTS)
        view = _view(known)
        default = IMAGENET
    else:
        view = EvaluationView(crop=1.0 if scaled else 0.9, filter="bicubic", rounding="even")
        default = CLIP if clip else IMAGENET if imagenet else HALF
    mean, std = (known.numbers(key) or default[key] for key in ("mean", "std"))
    if channels == 1:
        # timm's cfg keeps what the colours of the original had.
        mean, std = (((sum(values) / len(values)),) for values in (mean, std))
    return _Fed(mean, std, view, _image_size(known, settings.section("model_args")))


def _pretrained_cfg(settings: Settings) -> Settings:
    """The section, or in older files all of config.json; empty where nothing is said."""
    if "pretrained_cfg" in settings:
        return settings.section("pretrained_cfg")
    return settings if "input_size" in settings else settings.section("pretrained_cfg")


def _view(known: Settings) -> EvaluationView:
    mode, by = known.text("crop_mode"), known.text("interpolation")
    if mode not in _RESIZES:
        raise UserError(
            f"{known.about} has crop_mode {mode!r}, and images cannot be shown like that here; "
            f"expected one of {', '.join(_RESIZES)}"
        )
    if by not in get_args(Filter):
        raise UserError(
            f"{known.about} has interpolation {by!r}; expected one of {', '.join(get_args(Filter))}"
        )
    crop = known.number("crop_pct", 0.0)
    if not 0 < crop <= 1:
        raise UserError(f"{known.about} has crop_pct {crop}; expected a share, in (0, 1]")
    return EvaluationView(
        crop=crop, resize=_RESIZES[mode], filter=cast(Filter, by), rounding="even"
    )


def _image_size(known: Settings, args: Settings) -> int | tuple[int, int] | None:
    """What the model is fed: what it was made for, unless it takes any size."""
    dynamic = args.boolean("dynamic_img_size", False) or not args.boolean("strict_img_size", True)
    if not dynamic and (made_for := args.size("img_size")):
        return made_for
    size = known.numbers("input_size")
    if size is None:
        return None
    if len(size) != 3 or not all(0 < side <= LARGEST_SIDE for side in size[1:]):
        raise UserError(f"{known.about}: input_size is {list(size)}; expected [3, height, width]")
    height, width = map(int, size[1:])
    return height if height == width else (height, width)


def _class_names(settings: Settings) -> tuple[str, ...]:
    names = settings.content.get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)
