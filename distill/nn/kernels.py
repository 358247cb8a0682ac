"""Attention by the kernel that suits the device.

The plain kernel writes the weights of all pairs of tokens, [B, H, T, S] in float32, to device
memory and reads them again. The others never do: they keep a block of them on the chip, with the
statistics of its softmax in float32.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from distill.nn import closed_form
from distill.parallel import current_device, map_shards, settle

Kernel = Literal["auto", "plain", "cudnn", "splash"]

_AXES = ("batch", "tokens", "heads", "head_dim")
# Of a TPU's vector registers: the kernel's blocks of tokens are multiples of it.
_LANES = 128
# Larger blocks of float32 logits crowd the on-chip memory without saving traffic that counts.
_MOST_TOKENS = 512


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    kernel: Kernel = "plain",
    causal: bool = False,
) -> jax.Array:
    """softmax(q·kᵀ/√K)·v, its softmax in float32.

    Args:
      q: [B, T, H, K], float32, bfloat16 or float16.
      k: [B, S, H, K], of the same dtype.
      v: [B, S, H, K], of the same dtype.
      kernel: "plain" is XLA's and runs anywhere. "cudnn" needs an NVIDIA GPU of compute capability
        8.0 or later, bfloat16 or float16, even T and S, and a head_dim K that is a multiple of 8
        up to 128.
        "splash" needs a TPU, bfloat16 or float32, T and S that are multiples of 128, and a K that
        is a multiple of 8 up to 256. "auto" takes whichever of these can be used.
      causal: token t attends to keys 0 … t alone; all kernels can.

    Returns:
      [B, T, H, K] in the dtype of q.

    Raises:
      ValueError: for a kernel that does not exist, or one asked for by name that cannot be used
        on this platform or for these arrays.
    """
    return _KERNELS[choose(q, k, kernel)](q, k, v, causal)


def choose(
    q: jax.Array | jax.ShapeDtypeStruct, k: jax.Array | jax.ShapeDtypeStruct, kernel: Kernel
) -> str:
    """The kernel that `kernel` stands for, given queries [B, T, H, K] and keys [B, S, H, K].

    Raises:
      ValueError: as `attend`.
    """
    if kernel not in get_args(Kernel):
        listing = ", ".join(map(repr, get_args(Kernel)))
        raise ValueError(f"attention must be one of {listing}, not {kernel!r}")
    if kernel == "auto":
        return next((name for name, check in _OBSTACLES.items() if not check(q, k)), "plain")
    obstacles = _OBSTACLES[kernel](q, k) if kernel in _OBSTACLES else []
    if obstacles:
        raise ValueError(
            f"attention {kernel!r} cannot be used here: {'; '.join(obstacles)}. "
            "Set attention to 'auto' or 'plain'"
        )
    return kernel


def splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    interpret: bool = False,
) -> jax.Array:
    """Pallas' splash attention on one device; shapes and dtypes as in `attend`.

    The kernel knows no scale, so q carries it, rounded to its dtype: exact where K is a power of 4,
    half a unit in the last place elsewhere. Its custom derivative is differentiable once.

    Args:
      q: [B, T, H, K].
      k: [B, S, H, K].
      v: [B, S, H, K].
      causal: as `attend` has it; blocks that the mask empties are passed over.
      interpret: emulate the kernel on any device, slowly.
    """
    # Imported late: elsewhere than on TPUs nobody needs it, and it takes a moment.
    from jax.experimental.pallas.ops.tpu import splash_attention

    heads, (queries, keys) = q.shape[2], (q.shape[1], k.shape[1])
    rows, columns = _block(queries), _block(keys)
    sizes = splash_attention.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        use_fused_bwd_kernel=True,
    )
    make_mask = splash_attention.CausalMask if causal else splash_attention.FullMask
    mask = splash_attention.MultiHeadMask([make_mask((queries, keys))] * heads)
    # Where residuals are asked for, it returns them too.
    run: Any = splash_attention.make_splash_mha(
        mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret
    )
    q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
    # The batch by vmap, not folded into the heads: it becomes the grid's parallel dimension, which
    # the two cores of a v4 or v5p chip share. The backward kernel has no other.
    out = jax.vmap(run)(*(x.swapaxes(1, 2) for x in (q, k, v)))
    return out.swapaxes(1, 2)


def _block(tokens: int) -> int:
    """Tokens in a block: as many as divide the sequence, so that few blocks are started."""
    most = min(tokens, _MOST_TOKENS)
    return next(size for size in range(most, 0, -_LANES) if tokens % size == 0)


def _plain(q, k, v, causal):
    v = settle(v)
    if not closed_form.may_round():
        return closed_form.plain_attention(q, k, v, causal)
    on_cpu = _platform() == "cpu"
    if on_cpu or not (q.shape[1] % _LANES or k.shape[1] % _LANES):
        return closed_form.attention(q, k, v, causal, on_cpu)
    # Of other numbers of tokens XLA for TPU turns logits around where blocks are computed again.
    return closed_form.forward_attention(q, k, v, causal)


def _cudnn(q, k, v, *, causal):
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")


def _sharded(kernel: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A kernel is opaque to the compiler, which cannot partition it: each device calls its own."""

    def run(q, k, v, causal):
        return map_shards(functools.partial(kernel, causal=causal), q, k, v, axes=_AXES)

    return run


def _splash_obstacles(q, k) -> list[str]:
    return [
        *_unless(_platform() == "tpu", f"the platform is {_platform()!r}, expected 'tpu'"),
        *_dtype_obstacle(q, ("bfloat16", "float32")),
        *_tokens_obstacles(
            q, k, _LANES, "the image and patch sizes decide, or the length of texts"
        ),
        *_head_dim_obstacle(q, 256),
    ]


def _cudnn_obstacles(q, k) -> list[str]:
    if _platform() not in ("gpu", "cuda"):
        return [f"the platform is {_platform()!r}, expected an NVIDIA GPU"]
    found = str(getattr(current_device(), "compute_capability", None))
    # An AMD GPU, also of platform "gpu", says something like "gfx90a".
    number = re.fullmatch(r"(\d+)\.\d+", found)
    return [
        *_unless(
            number is not None and int(number.group(1)) >= 8,
            f"the GPU's compute capability is {found}, expected 8.0 or later",
        ),
        *_dtype_obstacle(q, ("bfloat16", "float16")),
        # JAX differentiates no other: it takes the bias that is not there for one.
        *_tokens_obstacles(q, k, 2, "the class token and registers count"),
        *_head_dim_obstacle(q, 128),
    ]


def _tokens_obstacles(q, k, multiple: int, advice: str) -> list[str]:
    return [
        f"{name} has {size} tokens, expected a multiple of {multiple} ({advice})"
        for name, size in {"q": q.shape[1], "k": k.shape[1]}.items()
        if size % multiple
    ]


def _dtype_obstacle(q, dtypes: tuple[str, ...]) -> list[str]:
    expected = f"{' or '.join(dtypes)} (the model's dtype decides)"
    return _unless(q.dtype.name in dtypes, f"the dtype is {q.dtype.name}, expected {expected}")


def _head_dim_obstacle(q, most: int) -> list[str]:
    size = q.shape[-1]
    return _unless(
        size % 8 == 0 and size <= most,
        f"head_dim is {size}, expected a multiple of 8 up to {most} (width / heads decides)",
    )


def _unless(condition: bool, obstacle: str) -> list[str]:
    return [] if condition else [obstacle]


def _platform() -> str:
    return current_device().platform


_OBSTACLES = {"splash": _splash_obstacles, "cudnn": _cudnn_obstacles}
_KERNELS = {
    "plain": _plain,
    "cudnn": _sharded(_cudnn),
    "splash": _sharded(splash),
}
