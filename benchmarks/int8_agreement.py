"""What int8 products do to what a model of full size says: beside itself in float32.

  python benchmarks/int8_agreement.py [--variant=L/16] [--images=64]

The model is drawn at random, its classifier of 1,000 classes too, as the initial one is zero; it
sees scenes of digits. It has none of the features of unusual magnitude that large trained models
have, which a factor for a whole token rounds worse.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import positive_int
from distill.data.sources import open_source
from distill.nn import Params, VisionNetwork
from distill.nn.int8 import quantise, quantised
from distill.parallel import MeshConfig, make_mesh
from distill.terminal import accept_any_text, text_table
from students import vit

CLASSES = 1000
WAYS = {
    "bfloat16": ("bfloat16", False),
    "int8, the rest in float32": ("float32", True),
    "int8, the rest in bfloat16": ("bfloat16", True),
}


def drawn(variant: str, image_size: int) -> tuple[VisionNetwork, Params]:
    """A ViT and its parameters, all drawn at random."""
    config = vit.configure(variant, image_size=image_size, num_classes=CLASSES, head="map")
    network = vit.build(config).placed(make_mesh(MeshConfig(), jax.devices()[:1]))
    params = jax.jit(network.init)(jax.random.key(0))
    kernel = params["classifier"]["kernel"]
    drawing = jax.random.normal(jax.random.key(1), kernel.shape) * kernel.shape[0] ** -0.5
    return network, params | {"classifier": params["classifier"] | {"kernel": drawing}}


def scenes(count: int, size: int) -> np.ndarray:
    """Scenes of three digits, uint8 [N, size, size, 3]."""
    source = open_source("scenes?digits=3&size=112", "validation", channels=3)
    drawn = (Image.fromarray(source.read(index)["image"]) for index in range(count))
    return np.stack([np.asarray(one.resize((size, size))) for one in drawn])


def answers(
    network: VisionNetwork, params: Params, images: np.ndarray, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, C] and embeddings [N, D], float32."""
    apply = jax.jit(lambda p, x: network.apply(p, network.prepare(x)))
    found = []
    for start in range(0, len(images), batch):
        # All batches have one shape, for one compilation.
        part = np.resize(images[start : start + batch], (batch, *images.shape[1:]))
        out = apply(params, part)
        kept = len(images[start : start + batch])
        found.append([np.asarray(x, np.float32)[:kept] for x in (out.logits, out.embedding)])
    logits, embeddings = zip(*found, strict=True)
    return np.concatenate(logits), np.concatenate(embeddings)


def compared(ours: tuple[np.ndarray, ...], exact: tuple[np.ndarray, ...]) -> tuple[str, ...]:
    """Agreement of the first class, KL divergence in nats, and cosines of embeddings, as text."""
    agreement = np.mean(ours[0].argmax(-1) == exact[0].argmax(-1))
    log_p, log_q = (jax.nn.log_softmax(jnp.asarray(x[0], jnp.float32)) for x in (exact, ours))
    kl = float(jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)))
    one, other = (x[1].astype(np.float64) for x in (ours, exact))
    cosines = (
        np.sum(one * other, -1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    )
    return f"{agreement:.2%}", f"{kl:.1e}", f"{cosines.mean():.6f} ({cosines.min():.6f})"


def main() -> None:
    """Compares and prints."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--variant", default="L/16", help="of what is drawn (%(default)s)")
    parser.add_argument("--image_size", type=positive_int, default=224, help="(%(default)s)")
    parser.add_argument("--images", type=positive_int, default=64, help="(%(default)s)")
    parser.add_argument("--batch", type=positive_int, default=8, help="(%(default)s)")
    args = parser.parse_args()
    network, params = drawn(args.variant, args.image_size)
    images = scenes(args.images, args.image_size)
    exact = answers(network, params, images, args.batch)
    rows = []
    for name, (dtype, by_int8) in WAYS.items():
        one = dataclasses.replace(network, config=dataclasses.replace(network.config, dtype=dtype))
        if by_int8:
            found = answers(quantised(one), quantise(one, params), images, args.batch)
        else:
            found = answers(one, params, images, args.batch)
        rows.append((name, *compared(found, exact)))
    print(text_table((f"{args.variant} in", "agreement", "KL", "cosine, mean (least)"), rows))


if __name__ == "__main__":
    main()
