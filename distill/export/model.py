"""What is exported: a trained network, and the function that most formats hold."""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import RunFailed, UserError, check_choices
from distill.evaluation_view import EvaluationView
from distill.nn import Params, VisionNetwork

Activation = Literal["softmax", "sigmoid"]


# Of a file that is a FlatBuffer, as StableHLO's and TFLite's are.
FLATBUFFER_BYTES = 2**31


class ExportFailed(RunFailed):
    """A model cannot be written in a format."""


class ExportMismatch(ExportFailed):
    """The exported model does not compute what JAX computes."""


class NotInstalled(UserError):
    """A format needs what is not installed, or what is not there in a version that it can use."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exportable:
    """A trained network.

    Raises:
      ValueError: for an unknown choice.
    """

    network: VisionNetwork
    """Computes in float32."""
    params: Params
    class_names: Sequence[str]
    """One per logit."""
    activation: Activation = "softmax"
    """From logits to probabilities."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the export's parameters and activations; what it returns is float32."""
    view: EvaluationView = EvaluationView()
    """What of an image it is to be shown."""

    def __post_init__(self):
        check_choices(self)

    @property
    def host_params(self) -> Params:
        """The parameters as NumPy arrays in the export's dtype."""
        return jax.tree.map(lambda p: np.asarray(p).astype(self.dtype, copy=False), self.params)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images it takes."""
        return self.network.config.image_shape

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What is done to an image before the model sees it, as JSON can hold it.

        The images' `mode` and `filter` as Pillow calls them, `resize` and `crop` as
        `EvaluationView` has them, `height` and `width` of what is cut out and, for values in
        [0, 1], `mean` and `std`.
        """
        height, width, channels = self.image_shape
        return {
            "mode": "L" if channels == 1 else "RGB",
            "resize": self.view.resize,
            "filter": self.view.filter,
            "crop": self.view.crop,
            "height": height,
            "width": width,
            "mean": list(self.network.config.mean),
            "std": list(self.network.config.std),
        }

    def function(self, **execution: Any) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
        """`serving_function` of the network in the export's dtype; `execution` sets how it runs."""
        network = self.network.with_tower(dtype=self.dtype, **execution)
        return serving_function(network, self.activation)


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


def serving_function(
    network: VisionNetwork, activation: Activation
) -> Callable[[Params, jax.Array], dict[str, jax.Array]]:
    """Maps (params, uint8 images [B, H, W, C]) to logits, probabilities and embedding, float32.

    A network without classifier has the embedding alone.
    """
    # One program serves every platform, whatever this machine has.
    network = dataclasses.replace(network.with_attention("plain"), placement=None)
    probabilities = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}[activation]

    def serve(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        outputs = network.apply(params, network.prepare(images))
        answers = {"embedding": outputs.embedding.astype(jnp.float32)}
        if network.config.num_classes:
            logits = outputs.logits.astype(jnp.float32)
            answers |= {"logits": logits, "probabilities": probabilities(logits)}
        return answers

    return serve


def signature(model: Exportable) -> Mapping[str, Any]:
    """Names, dtypes and shapes of what `serving_function` takes and returns; None is the batch."""
    images = jax.ShapeDtypeStruct((1, *model.image_shape), "uint8")
    outputs = jax.eval_shape(model.function(), model.network.abstract_params, images)
    return {
        "inputs": {"images": ["uint8", [None, *model.image_shape]]},
        "outputs": {n: [str(o.dtype), [None, *o.shape[1:]]] for n, o in outputs.items()},
    }


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


def size_obstacle(network: VisionNetwork, bytes_each: int) -> str | None:
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
