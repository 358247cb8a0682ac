"""From tensors of a file to parameters, once it is known which are which."""

from collections.abc import Collection, Iterable, Mapping

import jax
import numpy as np

from distill.errors import UserError
from distill.names.rules import Shape
from distill.nn import Params
from distill.tensor_files import TensorFile
from teachers.pretrained.match import Source


def shapes_by_name(params: Params) -> dict[str, Shape]:
    """The shapes of parameters by name such as "encoder/blocks/mlp/input/kernel"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(params)
    }


def read_sources(
    file: TensorFile,
    sources: Iterable[Source],
    shapes: Mapping[str, Shape],
    dtype: str,
    *,
    wide: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Parameters by name; each tensor is read, laid out, cast and let go before the next.

    Args:
      file: that holds the tensors.
      sources: of the parameters; one without a source is zero.
      shapes: of the parameters.
      dtype: of the parameters.
      wide: parameters that are float32 all the same.

    Raises:
      UserError: if the file is damaged or its numbers are not floating-point or not finite.
    """
    found = {
        name: np.zeros(shape, np.float32 if name in wide else dtype)
        for name, shape in shapes.items()
    }
    for source in sources:
        parts = source.rule.read(_finite(file, source.tensor), source.shapes)
        for name, part in zip(source.rule.parameters, parts, strict=True):
            found[name][... if source.layer is None else source.layer] = part
    return found


def nested(flat: Mapping[str, np.ndarray]) -> Params:
    """Parameters by name as nested dicts."""
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _finite(file: TensorFile, name: str) -> np.ndarray:
    """A tensor of the file, whose numbers are finite in the dtype they are computed in."""
    tensor = file.read(name)
    with np.errstate(over="ignore"):
        sound = np.isfinite(tensor.astype(np.float32, copy=False))
    if not sound.all():
        raise UserError(
            f"{file.path}: {name} has {np.count_nonzero(~sound):,} of {sound.size:,} "
            "values that are not finite; get the file again, or weights from before training "
            "went wrong"
        )
    return tensor
