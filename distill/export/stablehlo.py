"""StableHLO by `jax.export`: one file for CPU, CUDA and TPU that JAX alone loads."""

import calendar
import datetime
from pathlib import Path

import jax
import jax.numpy as jnp

from distill.export.model import Artefact, Exportable, converting, size_obstacle
from distill.json_files import write_json
from distill.nn import VisionNetwork

FILE = "model.jax_export"
PLATFORMS = ("cpu", "cuda", "tpu")

# For as long after its own release, releases of JAX promise to read what it wrote
# (jax.export, compatibility guarantees).
PROMISED_MONTHS = 6

README = """\
# Load it

JAX is all that is needed; the file holds the parameters and the preprocessing.

```python
import json, pathlib
import jax, numpy as np

model = jax.export.deserialize(bytearray(pathlib.Path("{file}").read_bytes()))
images = np.zeros((2, {height}, {width}, {channels}), np.uint8)  # any number of them
outputs = model.call(images)  # a dict of float32 arrays: {outputs}
classes = json.loads(pathlib.Path("class_names.json").read_text(encoding="utf-8"))
```

Written on {written} with jax {jax}, calling convention {convention}, for {platforms}. JAX \
promises that releases of the six months after this one read it, until {until} at most: \
export the model anew before.
"""


def check_installed() -> None:
    """Checks that the format can be written and run here, as it always can."""


def obstacle(network: VisionNetwork, dtype: str) -> str | None:
    """What keeps a network out of the format: parameters that one file cannot hold."""
    found = size_obstacle(network, jnp.dtype(dtype).itemsize)
    halved = dtype == "float32" and size_obstacle(network, 2) is None
    return f"{found}; with --dtype=bfloat16 they fit" if found and halved else found


def promised_until(written: datetime.date) -> datetime.date:
    """The last day on which releases of JAX that appear then promise to read a file.

    The promise counts from the release that wrote it, so an older one's ends earlier.

    Args:
      written: the day on which it was.
    """
    years, month = divmod(written.month - 1 + PROMISED_MONTHS, 12)
    year, month = written.year + years, month + 1
    return datetime.date(year, month, min(written.day, calendar.monthrange(year, month)[1]))


def write(model: Exportable, directory: Path) -> Artefact:
    """Writes the serving function with its parameters, class names and how to load them."""
    params = model.host_params
    height, width, channels = model.image_shape
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, channels), "uint8")
    serve = model.function()
    function = jax.jit(lambda images: serve(params, images))
    with converting("StableHLO"):
        program = jax.export.export(function, platforms=PLATFORMS)(images)
        content = program.serialize()
    directory.mkdir()
    (directory / FILE).write_bytes(content)
    write_json(directory / "class_names.json", list(model.class_names))
    outputs = sorted(jax.eval_shape(serve, params, images))
    today = datetime.datetime.now(datetime.UTC).date()
    (directory / "README.md").write_text(
        README.format(
            file=FILE,
            height=height,
            width=width,
            channels=channels,
            outputs=", ".join(outputs),
            jax=jax.__version__,
            convention=program.calling_convention_version,
            platforms=", ".join(program.platforms),
            written=today,
            until=promised_until(today),
        ),
        encoding="utf-8",
    )
    return Artefact("StableHLO", "stablehlo", directory / FILE, exact=model.dtype == "float32")
