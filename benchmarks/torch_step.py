"""The same training step in PyTorch, torch.compile on timm's models. It needs torch and timm."""

import argparse
import contextlib
from collections.abc import Callable
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

from benchmarks.ratio_programs import MODELS, TEACHER_MODEL
from benchmarks.training_step import DECAY, RATE, SEED, SHAPE_FLAGS, network_of
from distill.nn import ViTConfig


def timm_step(args: argparse.Namespace) -> tuple[Callable[[], None], dict[str, Any]]:
    """A step on labels, or of function matching, and its figures."""
    torch.manual_seed(SEED)
    student = _model(args, MODELS[args.task])
    teacher = None
    if args.task == "distill":
        teacher = _model(args, TEACHER_MODEL).requires_grad_(False)
    parameters = list(student.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)
    shape = (args.batch_size, 3, args.image_size, args.image_size)
    images = torch.rand(shape) * 2 - 1
    labels = torch.randint(0, args.num_classes, (args.batch_size,))
    targets = functional.one_hot(labels, args.num_classes).float()
    mixed = contextlib.nullcontext()
    if args.dtype == "bfloat16":
        mixed = torch.autocast("cpu", torch.bfloat16)

    @torch.compile
    def loss_of(images, targets, share):
        with mixed:
            if teacher is None:
                logits = student(images).float()
                if args.loss == "softmax":
                    return functional.cross_entropy(logits, targets)
                each = functional.binary_cross_entropy_with_logits(
                    logits, targets, reduction="none"
                )
                return each.sum(-1).mean()
            images = share * images + (1 - share) * images.roll(1, 0)
            with torch.no_grad():
                theirs = functional.log_softmax(teacher(images).float(), -1)
            ours = functional.log_softmax(student(images).float(), -1)
        return (theirs.exp() * (theirs - ours)).sum(-1).mean()

    def run() -> None:
        loss_of(images, targets, torch.rand(())).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run, {"temporary_bytes": None}


def _model(args: argparse.Namespace, name: str) -> VisionTransformer:
    sizes = {flag: getattr(args, flag) for flag in SHAPE_FLAGS}
    choices = {flag: size for flag, size in sizes.items() if size is not None}
    config: ViTConfig = network_of(name, choices | dict(image_size=args.image_size)).config
    pool: Any = {"map": "map", "gap": "avg"}[args.head]
    return VisionTransformer(
        img_size=args.image_size,
        patch_size=config.patch_size,
        num_classes=args.num_classes,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_dim / config.width,
        class_token=False,
        global_pool=pool,
        act_layer="gelu_tanh",
    )
