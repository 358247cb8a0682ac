"""StableHLO by `jax.export`: one file for CPU, CUDA and TPU that JAX alone loads."""

import calendar
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from distill.export.model import Artefact, Exportable, converting, size_obstacle
from distill.json_files import write_json
from distill.nn import Network

FILE = "model.jax_export"
CLASSES = "class_names.json"
PLATFORMS = ("cpu", "cuda", "tpu")

# For as long after its own release, releases of JAX promise to read what it wrote
# (jax.export, compatibility guarantees).
PROMISED_MONTHS = 6

README = """\
# Load it

JAX is all that is needed; the file holds the parameters{what}.

```python
import json, pathlib
import jax, numpy as np

model = jax.export.deserialize(bytearray(pathlib.Path("{file}").read_bytes()))
{inputs}  # any number of them{sizes}
outputs = model.call({arguments})  # a dict of arrays: {outputs}
{classes}```

Written on {written} with jax {jax}, calling convention {convention}, for {platforms}. JAX \
promises that releases of the six months after this one read it, until {until} at most: \
export the model anew before.
"""
_CLASSES_LINE = f"""\
classes = json.loads(pathlib.Path("{CLASSES}").read_text(encoding="utf-8"))
"""


def check_installed() -> None:
    """Checks that the format can be written and run here, as it always can."""


def obstacle(network: Network, dtype: str) -> str | None:
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
    batch, *sides = jax.export.symbolic_shape("batch, height, width")
    inputs = [
        jax.ShapeDtypeStruct((batch, *_symbolic(x.shape, sides)), x.dtype)
        for x in model.inputs.values()
    ]
    serve = model.function()
    function = jax.jit(lambda *inputs: serve(params, *inputs))
    with converting("StableHLO"):
        program = jax.export.export(function, platforms=PLATFORMS)(*inputs)
        content = program.serialize()
    directory.mkdir()
    (directory / FILE).write_bytes(content)
    if model.class_names is not None:
        write_json(directory / CLASSES, list(model.class_names))
    outputs = sorted(jax.tree.unflatten(program.out_tree, program.out_avals))
    (directory / "README.md").write_text(_readme(model, program, outputs), encoding="utf-8")
    return Artefact("StableHLO", "stablehlo", directory / FILE, exact=model.dtype == "float32")


def _symbolic(shape: Sequence[int | None], sides: Sequence[Any]) -> tuple[Any, ...]:
    """A shape with symbols where any size may be."""
    free = iter(sides)
    return tuple(next(free) if side is None else side for side in shape)


def _readme(model: Exportable, program: jax.export.Exported, outputs: Sequence[str]) -> str:
    """How to load the file, and until when."""
    shapes = model.example_shapes(2)
    today = datetime.datetime.now(datetime.UTC).date()
    return README.format(
        file=FILE,
        what=" and the preprocessing" if model.kind in ("image", "dense") else "",
        inputs="\n".join(
            f"{name} = np.zeros({shapes[name]}, np.{x.dtype})" for name, x in model.inputs.items()
        ),
        sizes=", and of any size" if model.kind == "dense" else "",
        arguments=", ".join(model.inputs),
        outputs=", ".join(outputs),
        classes="" if model.class_names is None else _CLASSES_LINE,
        jax=jax.__version__,
        convention=program.calling_convention_version,
        platforms=", ".join(program.platforms),
        written=today,
        until=promised_until(today),
    )
