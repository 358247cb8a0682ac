"""Ways to execute a ViT's layers on this CPU: what `remat` and `unroll` take and save.

  python benchmarks/executions.py [--variant=S/16] [--depth=12] [--image_size=224] [--batch_size=8]
      [--rounds=6]

Forward and backward pass in float32, all programs in turns in one process. CPU time is the median
of the rounds, memory what the compiler plans for temporaries, difference that of loss and gradients
to the first program's: the largest of any array, relative to its norm.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import positive_int
from distill.nn import VisionNetwork
from distill.parallel import MeshConfig, make_mesh
from distill.terminal import accept_any_text, text_table
from students import vit

WAYS = {
    "straight-line, none": ("none", True),
    "scan, none": ("none", False),
    "scan, dots": ("dots", False),
    "scan, full": ("full", False),
}


def gradients(network: VisionNetwork, images: jax.Array):
    """Of a loss of the logits, for parameters, ahead of time; and the seconds that took."""

    def loss(params):
        return jnp.mean(jnp.square(network.apply(params, images).logits - 1))

    began = time.perf_counter()
    program = jax.jit(jax.value_and_grad(loss)).lower(network.abstract_params).compile()
    return program, time.perf_counter() - began


def difference(one, other) -> float:
    """The largest of all arrays, of its norm; 0 where all bits are the same."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(float(jnp.linalg.norm(a - b) / (jnp.linalg.norm(b) + 1e-30)) for a, b in leaves)


def main() -> None:
    """Runs what the arguments ask for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--variant", default="S/16")
    for flag, value in {"depth": None, "image_size": 224, "batch_size": 8, "rounds": 6}.items():
        parser.add_argument(f"--{flag}", type=positive_int, default=value)
    given = parser.parse_args()
    depth = {} if given.depth is None else {"depth": given.depth}
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    try:
        config = vit.configure(
            given.variant, image_size=given.image_size, num_classes=1000, **depth
        )
        network = vit.build(config).placed(mesh)
    except ValueError as error:
        parser.error(str(error))
    params = jax.jit(network.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (given.batch_size, *config.image_shape))
    programs = {
        name: gradients(network.with_tower(remat=remat, unroll=unroll), images)
        for name, (remat, unroll) in WAYS.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    found = {}
    for _ in range(given.rounds):
        for name, (program, _) in programs.items():
            began = time.process_time()
            found[name] = jax.block_until_ready(program(params))
            taken[name].append(time.process_time() - began)
    chosen = network.executions(given.batch_size)[""]
    first = next(iter(found.values()))
    rows = []
    for name, (program, seconds) in programs.items():
        analysis = program.memory_analysis()
        memory = 0 if analysis is None else analysis.temp_size_in_bytes / 2**20
        rows.append(
            (
                name + (" (auto)" if WAYS[name] == chosen[:2] else ""),
                f"{statistics.median(taken[name]):.4f}",
                f"{memory:.0f}",
                f"{seconds:.1f}",
                f"{difference(found[name], first):.0e}",
            )
        )
    print(text_table(("layers", "CPU s", "temporary MiB", "compiled in s", "difference"), rows))


if __name__ == "__main__":
    main()
