"""What a batch holds of each example: the arrays of its source, and what loaders add to them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from distill.data.spec import ArraySpec, ClassesSpec, ExampleSpec, ImageSpec, LabelSpec, listed
from distill.errors import UserError

TeacherView = Literal["same", "independent", "fixed"]
"""What a teacher sees of a training image (arXiv 2106.05237, §3): the student's view, a training
view of its own, or the evaluation view, which never changes."""

# What precedes the names of stored arrays in a batch.
STORED = "stored/"


class Shaped(NamedTuple):
    """Shape and dtype of an example's array in a batch."""

    shape: tuple[int, ...]
    dtype: np.dtype


# What loaders add to an example. `mask` says whether a row is an image.
_ADDED = {
    "index": Shaped((), np.dtype(np.int64)),
    "mask": Shaped((), np.dtype(np.bool_)),
}
DESCRIBED = ("epoch", "box", "flip")
"""What examples hold besides where they are to say which view they are."""
_RESERVED = {*_ADDED, *DESCRIBED, "skipped", "teacher_image"}


def batch_spec(
    spec: ExampleSpec, size: int, *, teacher_view: TeacherView = "same"
) -> dict[str, Shaped]:
    """What batches hold of each example, by name.

    Args:
      spec: of the source.
      size: side of the views in pixels.
      teacher_view: what a teacher sees.
    """
    found = {name: Shaped(one.viewed_shape(size), one.dtype) for name, one in spec.items()}
    found |= {"label": Shaped((), LabelSpec.dtype)} | _ADDED
    if teacher_view != "same":
        found["teacher_image"] = found["image"]
    return found


def abstract_batch(spec: Mapping[str, Shaped], batch_size: int, sharding: Any = None) -> Any:
    """A batch as `jax.ShapeDtypeStruct`s by name, with the dtypes that JAX gives it.

    Args:
      spec: what `batch_spec` returned.
      batch_size: global.
      sharding: of all arrays, if any.
    """
    import jax

    return {
        name: jax.ShapeDtypeStruct(
            (batch_size, *shape), jax.dtypes.canonicalize_dtype(dtype), sharding=sharding
        )
        for name, (shape, dtype) in spec.items()
    }


def check_spec(spec: ExampleSpec, class_names: Sequence[str]) -> None:
    """Checks that views and batches can be made of such examples.

    Args:
      spec: of a source.
      class_names: of the source.

    Raises:
      UserError: if not.
    """
    for name, one in spec.items():
        if not isinstance(one, ArraySpec):
            raise UserError(
                f"the spec of {name!r} is {one!r}; expected one of distill.data.spec, such as "
                "MaskSpec, which says what a view makes of it"
            )
        if name in _RESERVED or name.startswith(STORED):
            raise UserError(
                f"an example's array cannot be called {name!r}, as loaders call something else so; "
                "give it another name, such as 'segmentation' to a mask of pixels"
            )
        if one.dtype.kind not in "biuf":
            raise UserError(
                f"{name!r} is {one}, which no device takes. Make numbers of it where it is read, "
                "with distill.data.Transformed"
            )
    expected = {"image": ImageSpec, "label": LabelSpec, "classes": ClassesSpec}
    for name, kind in expected.items():
        if name in spec and not isinstance(spec[name], kind):
            raise UserError(f"{name!r} must be of {kind.__name__}, not {type(spec[name]).__name__}")
    if "image" not in spec:
        raise UserError(f"an example has no 'image', only {listed(spec)}")
    classes = spec.get("classes")
    if isinstance(classes, ClassesSpec) and classes.count != len(class_names):
        raise UserError(
            f"'classes' are of {classes.count} classes, but the source names {len(class_names)}"
        )
