"""What gradients that are written out save: forward and backward pass of a ViT on this CPU.

  python benchmarks/written_out.py [--variant=S/16] [--batch_size=8] [--rounds=6] [--dtype=float32]
      [--unroll]

Two programs, with `distill.nn.closed_form` and with the forms whose gradients JAX derives, run in
turns in one process. CPU time is the median of the rounds, memory what the compiler plans for
temporaries.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import positive_int
from distill.nn import VisionNetwork, closed_form
from distill.parallel import MeshConfig, make_mesh
from distill.terminal import accept_any_text, text_table
from students import vit

DERIVED = {
    "layer_norm": closed_form.plain_layer_norm,
    "gelu_tanh": closed_form.plain_gelu_tanh,
    "attention": lambda q, k, v, causal, _: closed_form.plain_attention(q, k, v, causal),
    "product": closed_form.plain_product,
    "add_bias": closed_form.plain_add_bias,
}


def compiled(network: VisionNetwork, images: jax.Array):
    """Gradients of a loss of the logits, for parameters, ahead of time."""

    def loss(params):
        return jnp.mean(jnp.square(network.apply(params, images).logits - 1))

    return jax.jit(jax.value_and_grad(loss)).lower(network.abstract_params).compile()


def main() -> None:
    """Runs what the arguments ask for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--variant", default="S/16")
    parser.add_argument("--batch_size", type=positive_int, default=8)
    parser.add_argument("--rounds", type=positive_int, default=6)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--unroll", action="store_true")
    arguments = parser.parse_args()
    choices = dict(num_classes=1000, dtype=arguments.dtype, unroll=arguments.unroll)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    try:
        network = vit.configure(arguments.variant, **choices).build().placed(mesh)
    except ValueError as error:
        parser.error(str(error))
    params = jax.jit(network.init)(jax.random.key(0))
    images = jax.random.normal(
        jax.random.key(1), (arguments.batch_size, *network.config.image_shape)
    )
    programs = {"written out": compiled(network, images)}
    with mock.patch.multiple(closed_form, **DERIVED):
        programs["derived"] = compiled(network, images)
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            began = time.process_time()
            jax.block_until_ready(program(params))
            taken[name].append(time.process_time() - began)
    rows, first = [], None
    for name in ("derived", "written out"):
        seconds = statistics.median(taken[name])
        analysis = programs[name].memory_analysis()
        memory = 0 if analysis is None else analysis.temp_size_in_bytes / 2**20
        first = first or (seconds, memory)
        ratios = f"{seconds / first[0]:.2f}", f"{memory / first[1]:.2f}"
        rows.append((name, f"{seconds:.2f}", f"{memory:.0f}", *ratios))
    print(text_table(("gradients", "CPU s", "temporary MiB", "× time", "× memory"), rows))


if __name__ == "__main__":
    main()
