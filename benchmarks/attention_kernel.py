"""Compares a kernel of attention, forward and gradient, with the plain one and with float64.

  python benchmarks/attention_kernel.py [--kernel=cudnn] [--json=FILE]

On random bfloat16 arrays, at the tokens and head_dims of published models. An error is the norm of
the difference to a float64 transcription, divided by the transcription's norm. Exits with status 1
if the kernel's is more than twice the plain kernel's and more than a unit
in a bfloat16's last place.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The code beside this file is what is run, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write
from benchmarks.machine import columns, environment, environment_rows, write_figures
from distill.nn.kernels import Kernel, attend, choose
from distill.terminal import accept_any_text

BATCH, HEADS = 2, 4
# (tokens, head_dim) of B/16 and L/16, g/14, G/14 and 22B/14 at 224 px.
SHAPES = ((196, 64), (256, 88), (256, 104), (256, 128))
RESULTS = ("output", "dq", "dk", "dv")
# A unit in the last of a bfloat16's 8 bits: between the products, kernels round at other places.
ROUNDING = 2.0**-7


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
    """softmax(q·kᵀ/√K)·v and the gradients of its sum weighted by g; float64 [B, T, H, K] all."""
    scale = q.shape[-1] ** -0.5
    logits = scale * np.einsum("bthk,bshk->bhts", q, k)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    output = np.einsum("bhts,bshk->bthk", weights, v)
    dweights = np.einsum("bthk,bshk->bhts", g, v)
    dlogits = weights * (dweights - (weights * dweights).sum(-1, keepdims=True))
    dq = scale * np.einsum("bhts,bshk->bthk", dlogits, k)
    dk = scale * np.einsum("bhts,bthk->bshk", dlogits, q)
    return [output, dq, dk, np.einsum("bhts,bthk->bshk", weights, g)]


def errors(tokens: int, head_dim: int, kernel: Kernel) -> dict[str, float]:
    """Of the output and of each gradient.

    Raises:
      ValueError: for a kernel that cannot be used here.
    """
    rng = np.random.default_rng(tokens + head_dim)
    shape = (4, BATCH, tokens, HEADS, head_dim)
    arrays = list(jnp.asarray(rng.standard_normal(shape), jnp.bfloat16))

    @jax.jit
    def results(q, k, v, g):
        output, pull = jax.vjp(lambda q, k, v: attend(q, k, v, kernel=kernel), q, k, v)
        return [output, *pull(g)]

    expected = reference(*(np.asarray(array, np.float64) for array in arrays))
    actual = [np.asarray(array, np.float64) for array in results(*arrays)]
    return {
        name: float(np.linalg.norm(a - e) / np.linalg.norm(e))
        for name, a, e in zip(RESULTS, actual, expected, strict=True)
    }


def compare(tokens: int, head_dim: int, kernel: Kernel) -> dict[str, Any]:
    """Errors of `kernel` and of the plain one, and whether the first may be taken for the second.

    Raises:
      ValueError: for a kernel that cannot be used here.
    """
    array = jax.ShapeDtypeStruct((BATCH, tokens, HEADS, head_dim), jnp.bfloat16)
    ours, plain = errors(tokens, head_dim, kernel), errors(tokens, head_dim, "plain")
    return {
        "tokens": tokens,
        "head_dim": head_dim,
        "kernel": choose(array, array, kernel),
        "errors": ours,
        "plain_errors": plain,
        # What is not a number is not less than anything.
        "holds": all(ours[name] <= max(2 * plain[name], ROUNDING) for name in RESULTS),
    }


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kernels = ("auto", "cudnn", "splash")
    parser.add_argument("--kernel", choices=kernels, default="cudnn", help="(%(default)s)")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write it here")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, prints.

    Raises:
      SystemExit: with status 2 for a kernel that cannot be used here, 1 if it is not the plain one.
    """
    accept_any_text()
    parser = parser_of()
    args = parser.parse_args(argv)
    try:
        comparisons = [compare(*shape, args.kernel) for shape in SHAPES]
    except ValueError as error:
        parser.error(str(error))
    found = {
        **environment(),
        "comparisons": comparisons,
        "holds": all(comparison["holds"] for comparison in comparisons),
    }
    print(columns(environment_rows(found) | rows(comparisons)))
    write_figures(args.json, found)
    sys.exit(not found["holds"])


def rows(comparisons: list[dict[str, Any]]) -> dict[str, str]:
    """The comparisons for a reader."""
    return {
        f"T {c['tokens']}, K {c['head_dim']}": f"{'equal' if c['holds'] else 'DIFFERENT'}: "
        + ", ".join(
            f"{name} {c['errors'][name]:.1e} ({c['kernel']}), {c['plain_errors'][name]:.1e} (plain)"
            for name in RESULTS
        )
        for c in comparisons
    }


if __name__ == "__main__":
    main()
