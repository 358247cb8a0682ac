"""ONNX, by jax2onnx."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from distill.export.dense import DenseExportable
from distill.export.model import Artefact, Exportable, converting, require
from distill.nn import Network

FILE = "model.onnx"
WEIGHTS = "model.onnx.data"
"""Of a model that one file cannot hold."""

# The oldest in which all that the converter writes can be said, for the sake of older runtimes.
OPSET = 18
_IR_VERSION = 8
# With which models of this opset were run; its release notes name the opset.
OLDEST_RUNTIME = "1.14"

# A protocol buffer ends at 2 GiB; the graph itself is small.
_MOST_BYTES = 2**31 - 2**26


def check_installed() -> None:
    """Checks that the format can be written and run here.

    Raises:
      UserError: if a converter or runtime is missing.
    """
    require("onnx", "-c constraints.txt -e '.[onnx]'", "jax2onnx", "onnx", "onnxruntime")


def obstacle(network: Network, dtype: str) -> str | None:
    """What keeps a network out of the format: another dtype than float32."""
    del network
    return None if dtype == "float32" else f"it is written in float32, not in {dtype}"


def write(model: Exportable, directory: Path) -> Artefact:
    """Writes `model.onnx`, with free batch, and its class names in the metadata.

    Weights that it cannot hold, from 2 GiB on, lie beside it in `model.onnx.data`.
    """
    # The converter tells of plugins for libraries that are not asked for, and of shapes that it
    # does not record.
    logging.getLogger("jax2onnx").setLevel(logging.CRITICAL)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    import jax2onnx
    import onnx_ir

    params, serve = model.host_params, model.function(remat="none", remat_keep=())
    inputs = model.inputs
    one = [jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for x in inputs.values()]
    names = sorted(jax.eval_shape(serve, params, *one))
    with converting("ONNX"):
        converted = jax2onnx.to_onnx(
            _without_loops(lambda *inputs: tuple(map(serve(params, *inputs).get, names))),
            inputs=[jax.ShapeDtypeStruct(("batch", *x.shape), x.dtype) for x in inputs.values()],
            input_names=list(inputs),
            output_names=names,
            opset=OPSET,
            return_mode="ir",
        )
    converted.ir_version = _IR_VERSION
    if model.class_names is not None:
        converted.metadata_props["class_names"] = json.dumps(list(model.class_names))
    values = [weight.const_value for weight in converted.graph.initializers.values()]
    size = sum(value.nbytes for value in values if value is not None)
    directory.mkdir()
    onnx_ir.save(converted, directory / FILE, external_data=WEIGHTS if size > _MOST_BYTES else None)
    requires = {"opset": OPSET, "onnxruntime": f">={OLDEST_RUNTIME}"}
    if isinstance(model, DenseExportable):
        requires["image_size"] = list(model.fixed_size)
    return Artefact("ONNX", "onnx", directory, exact=True, requires=requires)


def _without_loops(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """The function with every step of its scans written out, and a list of what it returned.

    The converter writes a scan, unrolled or not, as a loop that copies the weights of all layers at
    every step.
    """

    def run(*inputs):
        closed = jax.make_jaxpr(function)(*inputs)
        return _evaluate(closed.jaxpr, closed.consts, inputs)

    return run


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True))

    def value(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        inputs = list(map(value, equation.invars))
        if equation.primitive.name == "scan":
            outputs = _steps(inputs, **equation.params)
        else:
            options = equation.primitive.get_bind_params(equation.params)
            found = equation.primitive.bind(*inputs, **options)
            outputs = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, outputs, strict=True))
    return list(map(value, jaxpr.outvars))


def _steps(
    inputs: Sequence[Any],
    *,
    jaxpr: ClosedJaxpr,
    length: int,
    num_consts: int,
    num_carry: int,
    **how: Any,
) -> list[Any]:
    """What a scan that stacks nothing carries in the end."""
    del how
    consts, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]
    for step in range(length):
        layer = [stacked[step] for stacked in inputs[num_consts + num_carry :]]
        carry = _evaluate(jaxpr.jaxpr, jaxpr.consts, [*consts, *carry, *layer])
    return [*carry]
