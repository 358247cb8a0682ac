"""Published weights whose files, or what stands beside them, are no longer what they were."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import jax
import numpy as np

from benchmarks.chaos.attempts import attempt
from benchmarks.chaos.fault import Fault, Outcome
from benchmarks.chaos.mutations import mutated

WIDTH, CLASSES, PATCH = 16, 3, 4


def _timm() -> dict[str, tuple[int, ...]]:
    block = {
        "norm1.weight": (WIDTH,),
        "norm1.bias": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.qkv.bias": (3 * WIDTH,),
        "attn.proj.weight": (WIDTH, WIDTH),
        "attn.proj.bias": (WIDTH,),
        "norm2.weight": (WIDTH,),
        "norm2.bias": (WIDTH,),
        "mlp.fc1.weight": (2 * WIDTH, WIDTH),
        "mlp.fc1.bias": (2 * WIDTH,),
        "mlp.fc2.weight": (WIDTH, 2 * WIDTH),
        "mlp.fc2.bias": (WIDTH,),
    }
    return {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        **{f"blocks.0.{name}": shape for name, shape in block.items()},
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (CLASSES, WIDTH),
        "head.bias": (CLASSES,),
    }


def _big_vision() -> dict[str, tuple[int, ...]]:
    block, attention = "Transformer/encoderblock_0", "MultiHeadDotProductAttention_0"
    found: dict[str, tuple[int, ...]] = {}
    for part in ("query", "key", "value"):
        found[f"{block}/{attention}/{part}/kernel"] = (WIDTH, 2, WIDTH // 2)
        found[f"{block}/{attention}/{part}/bias"] = (2, WIDTH // 2)
    found[f"{block}/{attention}/out/kernel"] = (2, WIDTH // 2, WIDTH)
    found[f"{block}/{attention}/out/bias"] = (WIDTH,)
    for norm in (f"{block}/LayerNorm_0", f"{block}/LayerNorm_1", "Transformer/encoder_norm"):
        found |= {f"{norm}/scale": (WIDTH,), f"{norm}/bias": (WIDTH,)}
    for number, (rows, columns) in enumerate(((WIDTH, 24), (24, WIDTH))):
        found[f"{block}/MlpBlock_0/Dense_{number}/kernel"] = (rows, columns)
        found[f"{block}/MlpBlock_0/Dense_{number}/bias"] = (columns,)
    return found | {
        "embedding/kernel": (PATCH, PATCH, 3, WIDTH),
        "embedding/bias": (WIDTH,),
        "pos_embedding": (1, 4, WIDTH),
        "head/kernel": (WIDTH, CLASSES),
        "head/bias": (CLASSES,),
    }


def prepare(given: Path) -> None:
    """Writes a model as timm does and one as big_vision does, compressed too."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)

    def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        return {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}

    timm = given / "timm"
    timm.mkdir()
    save_file(drawn(_timm()), timm / "model.safetensors", metadata={"format": "pt"})
    about = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": CLASSES,
        "global_pool": "token",
        "num_heads": 2,
        "model_args": {"img_size": 8, "patch_size": PATCH, "num_heads": 2},
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    (timm / "config.json").write_text(json.dumps(about), encoding="utf-8")
    for name, save in (("plain", np.savez), ("compressed", np.savez_compressed)):
        (given / name).mkdir()
        save(given / name / "model.npz", **drawn(_big_vision()))
    for one in sorted(given.iterdir()):
        read(one)


def read(path: Path) -> bool:
    """Opens a model and reads all of it; whether it is of shapes and numbers as they were."""
    from teachers.pretrained import open_published

    opened = open_published(path, heads=2 if path.name == "timm" else None)
    leaves = jax.tree.leaves(opened.read())
    return all(np.isfinite(leaf).all() for leaf in leaves)


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Mutates a file of a model, and reads it."""
    model = random.choice(sorted(one for one in given.iterdir() if one.is_dir()))
    copy = directory / model.name
    shutil.copytree(model, copy)
    file = random.choice(sorted(copy.iterdir()))
    file.write_bytes(mutated(file.read_bytes(), random))
    return attempt(f"{model.name}/{file.name}", lambda: read(copy))


FAULT = Fault(
    name="weights",
    tries="published weights in .safetensors, .npz and config.json with the same changes, opened "
    "and read whole",
    trials=1000,
    trial=trial,
    prepare=prepare,
    seconds=60,
    commands=False,
    together=100,
)
