"""From a file of published weights to a network and its parameters."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import UserError
from distill.names.rules import PREFIX_POSITIONS
from distill.nn import Network, Params, VisionTransformer
from distill.nn.embeddings import resize_grid
from distill.tensor_files import TensorFile, open_file
from teachers.pretrained import big_vision, huggingface, timm
from teachers.pretrained.match import Description, Source, configure, match, whole_patches
from teachers.pretrained.settings import LARGEST_SIDE, Settings

FAMILIES = ("big_vision", "timm", *dict.fromkeys(f for f, _ in huggingface.MODEL_TYPES.values()))

_MOST_PROBLEMS = 8
_CLASS_TOKEN, _REGISTERS, _TABLE = "class_token", "registers", "position/table"
# Added or interpolated before they are cast.
_COMPUTED = {_CLASS_TOKEN, _REGISTERS, _TABLE, PREFIX_POSITIONS}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model, whose file has been checked but for the values of its tensors."""

    network: Network
    """At the resolution and with the normalisation it is to be fed with."""
    family: str
    class_names: tuple[str, ...]
    """In the order of the logits; empty where nothing says them."""
    _file: TensorFile
    _description: Description
    _sources: tuple[Source, ...]

    def read(self, dtype: str = "float32") -> Params:
        """The parameters, nested dicts of NumPy arrays.

        Each tensor is read, laid out, cast to `dtype` and let go before the next.

        Raises:
          UserError: if the file is damaged or its numbers are not floating-point.
        """
        stored = _parameter_shapes(self._description)
        found = {
            name: np.zeros(shape, dtype if name not in _COMPUTED else np.float32)
            for name, shape in stored.items()
        }
        for source in self._sources:
            parts = source.rule.read(self._file.read(source.tensor), source.shapes)
            for name, part in zip(source.rule.parameters, parts, strict=True):
                found[name][... if source.layer is None else source.layer] = part
        front = found.pop(PREFIX_POSITIONS, None)
        if front is not None:
            # A token in front never moves: what is added to it belongs to it.
            found[_CLASS_TOKEN] += front[:1]
            if len(front) > 1:
                found[_REGISTERS] += front[1:]
        if _TABLE in found:
            found[_TABLE] = self._resized(found[_TABLE])
        found |= {name: found[name].astype(dtype) for name in _COMPUTED & found.keys()}
        return _nested(found)

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
        preprocessor_config.json beside it are read.
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
    file = open_file(path)
    settings = Settings.beside(path, "config.json")
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
    description = _as_fed(path, description)
    stored = description.config
    if image_size is None:
        fed = description.image_size or stored.image_size
        image_size = whole_patches(fed, stored.patch_size)
    elif not 0 < image_size <= LARGEST_SIDE:
        raise UserError(f"image_size must be from 1 to {LARGEST_SIDE} pixels, not {image_size}")
    choices = dict(image_size=image_size, mean=mean or stored.mean, std=std or stored.std)
    config = configure(path, **(vars(stored) | choices | dict(dtype=dtype)))
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    sources, problems = match(shapes, description, _parameter_shapes(description))
    if problems:
        listing = problems[:_MOST_PROBLEMS]
        if more := len(problems) - len(listing):
            listing.append(f"and {more} more")
        raise UserError(
            f"{path} is no {found} model of width {stored.width} and depth {stored.depth}\n"
            + "\n".join(f"  {line}" for line in listing)
        )
    names = description.class_names if len(description.class_names) == config.num_classes else ()
    return Published(
        Network(config, VisionTransformer), found, names, file, description, tuple(sources)
    )


def _family(file: TensorFile, settings: Settings) -> str:
    if big_vision.recognises(file):
        return "big_vision"
    if timm.recognises(file):
        return "timm"
    if "model_type" not in settings:
        raise UserError(
            f"{file.path} holds neither big_vision's nor timm's names, and Hugging Face's need the "
            f"config.json they are published with beside them ({settings.about})"
        )
    return huggingface.family_of(settings) or settings.text("model_type")


def _as_fed(path: Path, description: Description) -> Description:
    """With the resolution and normalisation of preprocessor_config.json, if there is one."""
    fed = Settings.beside(path, "preprocessor_config.json")
    changes = {}
    if fed.boolean("do_normalize", True):
        for key in ("mean", "std"):
            if values := fed.numbers(f"image_{key}"):
                changes[key] = values
    else:
        changes = dict(mean=(0.0,), std=(1.0,))
    config = configure(fed.about, **(vars(description.config) | changes))
    cropped = fed.size("crop_size") if fed.boolean("do_center_crop", True) else None
    size = cropped or fed.size("size") or description.image_size
    return dataclasses.replace(description, config=config, image_size=size)


def _parameter_shapes(description: Description) -> dict[str, tuple[int, ...]]:
    """Of the model as it is stored, by name."""
    params = Network(description.config, VisionTransformer).abstract_params
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    if description.prefix_positions:
        shapes[PREFIX_POSITIONS] = (description.prefix_positions, description.config.width)
    return shapes


def _nested(flat: dict[str, np.ndarray]) -> Params:
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
