"""What is exported: a trained network, and the function that most formats hold."""

import abc
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np

from distill.bounds import check_fields
from distill.errors import RunFailed, UserError
from distill.nn import Network, Params

Tower = Literal["image", "text", "pair"]
"""Which towers of a pair there are, or a model of images as any other."""

Kind = Literal["image", "text", "pair", "dense"]
"""Those, and heads that say something of each pixel."""

TOLERANCE = 1e-4
"""Of an output of an exact export, against JAX in float32."""

# Of a file that is a FlatBuffer, as StableHLO's and TFLite's are.
FLATBUFFER_BYTES = 2**31


class ExportFailed(RunFailed):
    """A model cannot be written in a format."""


class ExportMismatch(ExportFailed):
    """The exported model does not compute what JAX computes."""


class NotInstalled(UserError):
    """A format needs what is not installed, or what is not there in a version that it can use."""


class Input(NamedTuple):
    """What an exported function takes of each example."""

    dtype: str
    shape: tuple[int | None, ...]
    """Without the batch, which comes first; None is any size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exportable(abc.ABC):
    """A trained network, and the function of it that most formats hold.

    Raises:
      ValueError: for an unknown choice.
    """

    kind: ClassVar[Kind]
    network: Network
    """Computes in float32."""
    params: Params
    class_names: Sequence[str] | None = None
    """One per logit; None of what never has classes."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the export's parameters and activations; what it returns is float32."""

    def __post_init__(self):
        check_fields(self)

    @property
    def host_params(self) -> Params:
        """The parameters as NumPy arrays in the export's dtype."""
        return jax.tree.map(lambda p: np.asarray(p).astype(self.dtype, copy=False), self.params)

    @property
    @abc.abstractmethod
    def inputs(self) -> Mapping[str, Input]:
        """What the function takes beside parameters, by name, in order."""

    @property
    @abc.abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """What is done to an example before the model sees it, as JSON can hold it."""

    @property
    def free_side(self) -> int:
        """An example of what an input's size may be where it may be any."""
        return 1

    def example_shapes(self, batch: int, side: int | None = None) -> dict[str, tuple[int, ...]]:
        """Shapes of inputs, by name, where any size is `side`, or `free_side`."""
        any_size = side or self.free_side
        return {
            name: (batch, *(any_size if one is None else one for one in x.shape))
            for name, x in self.inputs.items()
        }

    def at_one_size(self) -> "Exportable":
        """The same for a format that does not take inputs of any size."""
        return self

    @abc.abstractmethod
    def function(self, **execution: Any) -> Callable[..., dict[str, jax.Array]]:
        """Maps (params, *inputs), in the export's dtype, to outputs by name, float32.

        Args:
          **execution: how the transformer is executed, such as `unroll`.
        """

    def tolerance(self, output: str) -> float:
        """By how much an output of an exact export may differ from JAX."""
        del output
        return TOLERANCE

    def write_beside(self, directory: Path) -> None:
        """Writes to a version what whoever uses it needs beside the model, whatever its format."""
        del directory


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A model that was written, and how it is to be checked."""

    name: str
    """As tables call it."""
    runtime: str
    """In which it is checked; one of those in check.py."""
    path: Path
    """Of a file or a directory."""
    exact: bool
    """Whether it promises JAX's figures, or only the classes that JAX prefers."""
    requires: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What a runtime has to be to take it, by name, as JSON can hold it."""


def signature(model: Exportable) -> Mapping[str, Any]:
    """Names, dtypes and shapes of what the function takes and returns.

    None is the batch or, after it, any size.
    """
    outputs = others = _outputs(model, model.free_side)
    if any(None in x.shape for x in model.inputs.values()):
        others = _outputs(model, model.free_side + 1)
    return {
        "inputs": {n: [x.dtype, [None, *x.shape]] for n, x in model.inputs.items()},
        "outputs": {
            n: [str(o.dtype), [None, *_common(o.shape[1:], others[n].shape[1:])]]
            for n, o in outputs.items()
        },
    }


def _outputs(model: Exportable, side: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What the function returns of one example of which any size is `side`."""
    shapes = model.example_shapes(1, side)
    one = [jax.ShapeDtypeStruct(shapes[name], x.dtype) for name, x in model.inputs.items()]
    return jax.eval_shape(model.function(), model.network.abstract_params, *one)


def _common(shape: tuple[int, ...], other: tuple[int, ...]) -> list[int | None]:
    """A shape whose sides are None where they follow the input's."""
    return [a if a == b else None for a, b in zip(shape, other, strict=True)]


def require(form: str, extra: str, *modules: str) -> None:
    """Checks that what writes or runs a format is installed.

    Raises:
      NotInstalled: if it is not.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise NotInstalled(
            f"the format {form} is written and checked with {', '.join(missing)}, which is not "
            f"installed: pip install {extra}; --format=stablehlo needs JAX alone"
        )


def size_obstacle(network: Network, bytes_each: int) -> str | None:
    """What keeps a network's parameters out of a FlatBuffer; None if they fit.

    Args:
      network: of the parameters.
      bytes_each: of a parameter in the file.
    """
    size = network.parameter_count() * bytes_each
    if size < FLATBUFFER_BYTES:
        return None
    return f"a file holds less than {FLATBUFFER_BYTES:,} bytes, and the parameters have {size:,}"


@contextmanager
def converting(name: str, *errors: type[Exception]) -> Iterator[None]:
    """Reports what a converter raises as a failure of this export alone.

    Args:
      name: of the artefact, as tables call it.
      errors: of the converter's own.

    Raises:
      ExportFailed: for what a converter raises of a model that it does not take, or that does not
        fit in memory.
    """
    try:
        yield
    except (
        *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
        *(RuntimeError, TypeError, ValueError, *errors),
    ) as error:
        raise ExportFailed(f"the {name} export cannot be written: {error!r}") from error
