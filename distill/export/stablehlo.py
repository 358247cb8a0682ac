"""StableHLO by `jax.export`: one file for CPU, CUDA and TPU that JAX alone loads."""

from pathlib import Path

import jax

from distill.errors import UserError
from distill.export.model import Artefact, Exportable
from distill.json_files import write_json

FILE = "model.jax_export"
PLATFORMS = ("cpu", "cuda", "tpu")

# The file is a FlatBuffer.
_MOST_BYTES = 2**31

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

Written with jax {jax}, calling convention {convention}, for {platforms}. JAX reads what it has \
written for at least six months after.
"""


def check(model: Exportable) -> None:
    """Checks that the model can be written.

    Raises:
      UserError: for a model that one file cannot hold.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model.host_params))
    if size >= _MOST_BYTES:
        raise UserError(
            f"a StableHLO file holds less than {_MOST_BYTES:,} bytes, and the parameters have "
            f"{size:,}; with --dtype=bfloat16 they have half, and a SavedModel has no such limit"
        )


def write(model: Exportable, directory: Path) -> list[Artefact]:
    """Writes the serving function with its parameters, class names and how to load them."""
    params = model.host_params
    height, width, channels = model.image_shape
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, height, width, channels), "uint8")
    serve = model.function()
    exported = jax.export.export(jax.jit(lambda images: serve(params, images)), platforms=PLATFORMS)
    program = exported(images)
    directory.mkdir()
    (directory / FILE).write_bytes(program.serialize())
    write_json(directory / "class_names.json", list(model.class_names))
    outputs = sorted(jax.eval_shape(serve, params, images))
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
        ),
        encoding="utf-8",
    )
    return [Artefact("StableHLO", "stablehlo", directory / FILE, exact=model.dtype == "float32")]
