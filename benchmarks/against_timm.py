"""Times this project's training step and timm's in torch.compile, in turns in one process.

  XLA_PYTHON_CLIENT_PREALLOCATE=false python benchmarks/against_timm.py --model=L/16 --batch_size=64

Both train the same vision transformer, its tokens averaged before the classifier, on labels with
softmax cross-entropy: bfloat16 activations, float32 parameters, gradients clipped to norm 1, Adam
with weight decay, nothing computed again in the backward pass. timm's runs under torch.autocast,
with PyTorch's fused AdamW. The ratio is of the medians of rounds that take turns, so that both see
the same clocks. Images are random and on the device, as in `step_time.py`. It needs torch and timm.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write, positive_int
from benchmarks.machine import columns, environment, environment_rows, write_figures
from benchmarks.training_step import (
    SEED,
    SHAPE_FLAGS,
    Job,
    allocator_peak,
    compile_step,
    network_of,
)
from distill.nn import ViTConfig
from distill.parallel import MeshConfig, make_mesh
from distill.tasks.classification import Classification, ClassificationConfig
from distill.terminal import accept_any_text

WARMUP = 3
OURS, TIMMS = "this project", "timm"
# Runs so many steps and waits for the last.
Run = Callable[[int], None]


def our_run(args: argparse.Namespace) -> tuple[Run, ViTConfig, int]:
    """Ours, with the model's configuration and number of parameters.

    Raises:
      ValueError: for a model that does not exist or contradicts itself.
    """
    shape = {flag: getattr(args, flag) for flag in SHAPE_FLAGS}
    choices = {flag: size for flag, size in shape.items() if size is not None}
    choices |= dict(image_size=args.image_size, num_classes=args.num_classes)
    mesh = make_mesh(MeshConfig())
    network = network_of(args.model, choices | dict(head="gap", dtype="bfloat16")).placed(mesh)
    task = Classification(network, ClassificationConfig(kind="softmax"))
    step = compile_step(Job(task, network, None), "adam", args.batch_size, mesh)
    state = step.start()

    def run(steps: int) -> None:
        nonlocal state
        for number in range(steps):
            batch = step.batches[number % len(step.batches)]
            state, metrics = step.program(state, step.frozen, batch)
        jax.block_until_ready(metrics)

    return run, network.config, network.parameter_count()


def timm_run(config: ViTConfig, batch_size: int) -> tuple[Run, int]:
    """timm's, with its number of parameters."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(SEED)
    torch.set_float32_matmul_precision("high")
    side, _, channels = config.image_shape
    model = VisionTransformer(
        img_size=side,
        patch_size=config.patch_size,
        num_classes=config.num_classes,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_dim / config.width,
        class_token=False,
        global_pool="avg",
        act_layer="gelu_tanh",
    ).to(device)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=1e-6, fused=True)
    shape = (batch_size, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = torch.randint(0, config.num_classes, (batch_size,), device=device)

    @torch.compile
    def loss_of(images, labels):
        with torch.autocast(device, torch.bfloat16):
            logits = model(images.float() / 127.5 - 1)
        return functional.cross_entropy(logits.float(), labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            loss_of(images, labels).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return run, sum(parameter.numel() for parameter in parameters)


def measure(runs: dict[str, Run], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds per step of each, in rounds that take turns."""
    for run in runs.values():
        run(WARMUP)
    found = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run(steps)
            found[name].append((time.perf_counter() - began) / steps)
    return found


def figures(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed or written, by name; times in seconds.

    Raises:
      ValueError: for a model that does not exist or contradicts itself.
    """
    ours, config, our_parameters = our_run(args)
    timms, parameters = timm_run(config, args.batch_size)
    if parameters != our_parameters:
        raise ValueError(
            f"{args.model} has {our_parameters} parameters here and {parameters} in timm, so that "
            "the two cannot be compared; name a model of the family vit"
        )
    seconds = measure({OURS: ours, TIMMS: timms}, args.rounds, args.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    on_gpu = torch.cuda.is_available()
    where = environment()
    others = {"torch": torch.__version__, "timm": timm.__version__}
    return {
        **where,
        "versions": where["versions"] | others,
        "model": args.model,
        "parameters": parameters,
        "batch_size": args.batch_size,
        "round_seconds_per_step": seconds,
        "step_seconds": medians,
        "images_per_second": {name: args.batch_size / s for name, s in medians.items()},
        "speedup": medians[TIMMS] / medians[OURS],
        "peak_memory_bytes": {
            OURS: allocator_peak(),
            TIMMS: torch.cuda.max_memory_allocated() if on_gpu else None,
        },
    }


def rows(f: dict[str, Any]) -> dict[str, str]:
    """The figures for a reader."""

    def told(name: str) -> str:
        low, high = (1e3 * end(f["round_seconds_per_step"][name]) for end in (min, max))
        peak = f["peak_memory_bytes"][name]
        return (
            f"{1e3 * f['step_seconds'][name]:,.2f} ms, rounds from {low:,.2f} to {high:,.2f}; "
            f"{f['images_per_second'][name]:,.1f} images/s; peak memory "
            + ("not counted here" if peak is None else f"{peak / 2**30:,.3f} GiB")
        )

    return {
        "step": f"pretrain {f['model']} ({f['parameters'] / 1e6:,.4g} M parameters), "
        f"batch {f['batch_size']}",
        **environment_rows(f),
        OURS: told(OURS),
        TIMMS: told(TIMMS),
        "speed": f"{f['speedup']:.2f} times timm's",
    }


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", default="L/16", metavar="NAME", help="shape and patch size (%(default)s)")
    add("--batch_size", type=positive_int, required=True, help="images per step")
    add("--image_size", type=positive_int, default=224, help="in pixels (%(default)s)")
    add("--num_classes", type=positive_int, default=1000, help="of the classifier (%(default)s)")
    add("--rounds", type=positive_int, default=5, help="of each (%(default)s)")
    add("--steps", type=positive_int, default=5, help="in a round (%(default)s)")
    add("--json", type=file_to_write, metavar="FILE", help="also write the figures here")
    sizes = parser.add_argument_group("sizes that differ from the name's, for small runs")
    for flag in SHAPE_FLAGS:
        sizes.add_argument(f"--{flag}", type=positive_int, metavar="N")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Times both, prints.

    Raises:
      SystemExit: with status 2 for arguments that cannot be.
    """
    accept_any_text()
    parser = parser_of()
    args = parser.parse_args(argv)
    try:
        found = figures(args)
    except ValueError as error:
        parser.error(str(error))
    print(columns(rows(found)))
    write_figures(args.json, found)


if __name__ == "__main__":
    main()
