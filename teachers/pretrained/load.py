"""From a file of published weights to a network and its parameters."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.names.rules import PREFIX_POSITIONS
from distill.nn import Params, VisionNetwork, VisionTransformer
from distill.nn.embeddings import resize_grid
from distill.paths import download
from distill.tensor_files import SUFFIXES, TensorFile, open_file
from teachers.pretrained import big_vision, huggingface, timm
from teachers.pretrained.match import Description, Source, configure, match_all, whole_patches
from teachers.pretrained.read import nested, read_sources, shapes_by_name
from teachers.pretrained.settings import LARGEST_SIDE, Settings, what_it_has
from teachers.pretrained.wrappers import Unwrapped

FAMILIES = (
    "big_vision",
    "timm",
    *dict.fromkeys(kind.family for kind in huggingface.MODEL_TYPES.values()),
)

_CLASS_TOKEN, _REGISTERS, _TABLE = "class_token", "registers", "position/table"
# Added or interpolated before they are cast.
_COMPUTED = {_CLASS_TOKEN, _REGISTERS, _TABLE, PREFIX_POSITIONS}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model, whose file has been checked but for the values of its tensors."""

    network: VisionNetwork
    """At the resolution and with the normalisation it is to be fed with."""
    view: EvaluationView
    """What of an image it is to be shown."""
    family: str
    class_names: tuple[str, ...]
    """In the order of the logits; empty where nothing says them."""
    _file: Unwrapped
    _description: Description
    _sources: tuple[Source, ...]

    def read(self, dtype: str = "float32") -> Params:
        """The parameters, nested dicts of NumPy arrays.

        Each tensor is read, laid out, cast to `dtype` and let go before the next.

        Raises:
          UserError: if the file is damaged or its numbers are not floating-point or not finite.
        """
        stored = _parameter_shapes(self._description)
        found = read_sources(self._file, self._sources, stored, dtype, wide=_COMPUTED)
        front = found.pop(PREFIX_POSITIONS, None)
        if front is not None:
            # A token in front never moves: what is added to it belongs to it.
            found[_CLASS_TOKEN] += front[:1]
            if len(front) > 1:
                found[_REGISTERS] += front[1:]
        if _TABLE in found:
            found[_TABLE] = self._resized(found[_TABLE])
        found |= {name: found[name].astype(dtype) for name in _COMPUTED & found.keys()}
        return nested(found)

    def _resized(self, table: np.ndarray) -> np.ndarray:
        grid = self.network.config.grid
        if table.shape[:2] == grid:
            return table
        if self._description.interpolation is not None:
            return self._description.interpolation(table, grid)
        return np.asarray(resize_grid(jnp.asarray(table), grid))


def open_published(
    path: Path,
    *,
    family: str | None = None,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    heads: int | None = None,
    dtype: str = "float32",
) -> Published:
    """Finds out what a file holds and checks names and shapes of all its tensors.

    Args:
      path: of a .safetensors or .npz file, or a directory that holds one; config.json and
        what describes its image processor beside it are read.
      family: what is expected, one of `FAMILIES`; None takes what is there.
      image_size: in pixels; None takes what the model is published for. The position embedding is
        interpolated.
      mean: of pixel values in [0, 1]; None takes what the model is published with.
      std: likewise.
      heads: for a timm file where neither config.json nor its architecture says how many.
      dtype: of activations.

    Raises:
      UserError: naming tensors that are missing, misshapen or unknown; for a file that is damaged,
        a pickle, or of a family that is not known.
    """
    file, settings = open_weights(path)
    found = _family(file, settings)
    if family not in (None, found):
        raise UserError(f"{path} holds a model of the family {found}, not {family}")
    if heads is not None and found != "timm":
        raise UserError(f"{path} says how many heads its model has; leave heads out")
    if found == "big_vision":
        description = big_vision.describe(file)
    elif found == "timm":
        description = timm.describe(file, settings, heads)
    else:
        description = huggingface.describe(file, settings)
    stored, view = description.config, description.view
    if image_size is None:
        fed = description.image_size or stored.image_size
        view = _view(path, description, fed)
        size = whole_patches(fed, stored.patch_size)
    elif 0 < image_size <= LARGEST_SIDE:
        size = image_size
    else:
        raise UserError(f"image_size must be from 1 to {LARGEST_SIDE} pixels, not {image_size}")
    choices = dict(image_size=size, mean=mean or stored.mean, std=std or stored.std)
    config = configure(path, **(vars(stored) | choices | dict(dtype=dtype)))
    what = f"{found} model of width {stored.width} and depth {stored.depth}"
    sources = match_all(file, description, _parameter_shapes(description), what)
    names = description.class_names if len(description.class_names) == config.num_classes else ()
    network = VisionNetwork(config, VisionTransformer)
    return Published(network, view, found, names, file, description, sources)


def open_weights(path: Path) -> tuple[Unwrapped, Settings]:
    """A file of weights, or that of a directory, and the config.json beside it.

    Raises:
      UserError: if there is none, or it is damaged or of another format.
    """
    if advice := _how_to_download(path):
        raise UserError(f"weights {path} do not exist{advice}")
    return Unwrapped(open_file(path)), Settings.beside(path, "config.json")


def _how_to_download(path: Path) -> str:
    """For a path that looks like the name of a repository on Hugging Face's hub."""
    if path.is_absolute():
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path()
    owner, *rest = path.parts or ("",)
    if len(rest) != 1 or Path(owner).exists() or path.suffix in SUFFIXES:
        return ""
    name = f"{owner.removeprefix('hf-hub:')}/{rest[0]}"
    return f". If {name} is a repository of Hugging Face: nothing is downloaded; {download(name)}"


def _family(file: TensorFile, settings: Settings) -> str:
    if big_vision.recognises(file):
        return "big_vision"
    if timm.recognises(file):
        return "timm"
    if "model_type" not in settings:
        raise UserError(
            f"{file.path} holds neither big_vision's nor timm's names, and Hugging Face's need the "
            f"config.json they are published with beside them ({settings.about}): "
            + what_it_has(file)
        )
    return huggingface.family_of(settings) or settings.text("model_type")


def _view(path: Path, description: Description, fed: int | tuple[int, int]) -> EvaluationView:
    """What a model is shown that is fed images of a size, of which its patches cover a part."""
    patch, view = description.config.patch_size, description.view
    if min((fed,) if isinstance(fed, int) else fed) < patch:
        raise UserError(f"{path} is fed {fed} pixels, less than one of its patches of {patch}")
    if isinstance(fed, int):
        return dataclasses.replace(view, unseen=fed % patch)
    if view.resize == "shortest" or any(side % patch for side in fed):
        raise UserError(
            f"{path} is fed the central {fed[0]}×{fed[1]} pixels of an image; expected a square "
            f"here. Give image_size, such as {max(fed) // patch * patch}"
        )
    return view


def _parameter_shapes(description: Description) -> dict[str, tuple[int, ...]]:
    """Of the model as it is stored, by name."""
    shapes = shapes_by_name(VisionNetwork(description.config, VisionTransformer).abstract_params)
    if description.prefix_positions:
        shapes[PREFIX_POSITIONS] = (description.prefix_positions, description.config.width)
    return shapes
