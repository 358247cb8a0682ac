"""What numbers may be: bounds that a field's annotation or a flag declares, each with its reason.

`Annotated[int, Between(1, 512)]` is a whole number from 1 to 512. `distill.config.resolve` checks
all of a config's, and says so with everything else that is wrong; `check_fields` those of a
dataclass that a program makes. What would be an impossible size, or would never end, is refused
before anything is allocated. Whether a possible size fits into a machine is asked of the machine.
"""

import dataclasses
import functools
import numbers
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union


@dataclasses.dataclass(frozen=True)
class Between:
    """Marks a number with the least and the greatest that it may be."""

    low: float
    high: float
    open: Literal["", "low", "high", "both"] = ""
    """The ends that are no part of it."""

    def __contains__(self, value: Any) -> bool:
        """Whether a number is within; what is not a number is not."""
        if not isinstance(value, numbers.Real):
            return False
        # Of every kind: NumPy's too.
        value = typing.cast(float, value)
        if value in (self.low, self.high):
            ends = {self.low: "low", self.high: "high"}
            return self.open not in ("both", ends[value])
        return self.low < value < self.high

    def __str__(self) -> str:
        low = f"{'above' if self.open in ('low', 'both') else 'from'} {_shown(self.low)}"
        return f"{low} to {'below ' if self.open in ('high', 'both') else ''}{_shown(self.high)}"


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def bounds_of(annotation: Any) -> Between | None:
    """Those of an annotation `Annotated[…, Between(…)]`; None of any other."""
    marks = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Between)), None)


_WORDS = {int: "whole number", float: "number"}


def words(annotation: Any) -> str:
    """What a number with bounds may be."""
    return f"{_WORDS[typing.get_args(annotation)[0]]} {bounds_of(annotation)}"


def check_fields(config: Any, **others: Any) -> None:
    """Checks the fields of a dataclass by their annotations: choices (`Literal`) and bounds.

    Args:
      config: the dataclass.
      others: annotations by which fields are checked in place of their own.

    Raises:
      ValueError: for a value that is not among the choices, or out of bounds.
    """
    for field, annotation in (dict(_annotated(type(config))) | others).items():
        for value, expected in _wrong(getattr(config, field), annotation):
            raise ValueError(f"{field} must be {expected}, not {value!r}")


@functools.cache
def _annotated(schema: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(schema, include_extras=True)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(schema))


def _wrong(value: Any, annotation: Any) -> Iterator[tuple[Any, str]]:
    """Each value that an annotation does not allow, with what it does."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, Union):
        found = [list(_wrong(value, one)) for one in arguments if _may_be(value, one)]
        if all(found):
            yield from (one for wrong in found[:1] for one in wrong)
    elif origin is Literal:
        if value not in arguments:
            yield value, f"one of {', '.join(map(repr, arguments))}"
    elif (bounds := bounds_of(annotation)) is not None:
        if value not in bounds:
            yield value, f"a {words(annotation)}"
    elif origin is tuple and isinstance(value, tuple):
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        each = arguments[:1] * len(value) if repeated else arguments
        for one, of in zip(value, each, strict=False):
            yield from _wrong(one, of)
    elif origin is dict and isinstance(value, dict):
        for one in value.values():
            yield from _wrong(one, arguments[1])


def _may_be(value: Any, option: Any) -> bool:
    """Whether a value is of the kind of one of an annotation's options."""
    if bounds_of(option) is not None:
        return isinstance(value, numbers.Real)
    if typing.get_origin(option) is Literal:
        return any(type(value) is type(one) for one in typing.get_args(option))
    if typing.get_origin(option) is Annotated:
        option = typing.get_args(option)[0]
    kind = typing.get_origin(option) or option
    return not isinstance(kind, type) or isinstance(value, kind)


# The square of any number up to this one, and of its inverse, is one in float32.
_FLOAT32 = 1e18

Seed = Annotated[int, Between(0, 2**32 - 1)]
"""32 bits, of which NumPy and JAX make the same on every machine."""
MOST_STEPS = 2**31 - 1
"""Of a run, in whatever unit its length is given."""
Steps = Annotated[int, Between(0, MOST_STEPS)]
"""Optimizers count steps in int32."""
SomeSteps = Annotated[int, Between(1, MOST_STEPS)]
"""As `Steps`, at least one."""
Examples = Annotated[int, Between(0, 2**53)]
"""Images or other examples, some seen many times: up to here float64 counts without a gap."""
Images = Annotated[int, Between(1, 2**53)]
"""As `Examples`, at least one."""
Epochs = Annotated[float, Between(0, 1e6)]
"""A million passes over the data: a hundred times what is most patient in "A good teacher is
patient and consistent"."""
SomeEpochs = Annotated[float, Between(0, 1e6, "low")]
"""As `Epochs`, more than none."""
Percent = Annotated[float, Between(0, 100)]
"""Of a run."""
BatchSize = Annotated[int, Between(1, 2**24)]
"""Over all devices: 16 million, 16 times the largest batches that "Sigmoid Loss for Language Image
Pre-Training" tried."""
Some = Annotated[int, Between(1, 10**6)]
"""What a run has a few of or, where a set of images is measured, thousands."""
Weight = Annotated[float, Between(1e-6, 1e6)]
"""How much one counts beside others: what counts a million times more leaves nothing of them."""
Ratio = Annotated[float, Between(1e-3, 1e3)]
"""Of an image's width to its height."""
Share = Annotated[float, Between(0, 1)]
"""A part of a whole."""
SomeShare = Annotated[float, Between(0, 1, "low")]
"""A part of a whole that is not nothing."""
ProperShare = Annotated[float, Between(0, 1, "both")]
"""A part of a whole that is neither nothing nor all."""
NotAll = Annotated[float, Between(0, 1, "high")]
"""A part of a whole that is not all, as of a moving average what is kept."""
CropShare = Annotated[float, Between(0.01, 1)]
"""Side of what is cut out over that of the whole, which is resized to so many times a model's
side."""
Gamma = Annotated[float, Between(1e-6, 1e6)]
"""γ of debiasing, the span of 2p − 1 over which decisions are by chance; 2 spans all."""
Positive = Annotated[float, Between(1 / _FLOAT32, _FLOAT32)]
"""Computed with in float32, which squares it without reaching 0 or infinity."""
NotNegative = Annotated[float, Between(0, _FLOAT32)]
"""As `Positive`, or 0."""
Real = Annotated[float, Between(-_FLOAT32, _FLOAT32)]
"""As `Positive` with either sign, or 0."""
Side = Annotated[int, Between(1, 2**14)]
"""Pixels on a side of what a model is shown or an image is shrunk to: at 16,384 one image is
805 MB, and OpenCV's and libjpeg's sizes end at twice to four times as much."""
Width = Annotated[int, Between(1, 2**18)]
"""Of activations or hidden layers, and how many heads share one: ten times ViT-22B's 24,576."""
OptionalWidth = Annotated[int, Between(0, 2**18)]
"""As `Width`, 0 for none."""
Depth = Annotated[int, Between(1, 2**10)]
"""Blocks, one after the other: 18 times ViT-e's 56."""
Classes = Annotated[int, Between(0, 2**24)]
"""What a classifier tells apart, 0 for none: 16 million, which float32 still numbers."""
SomeClasses = Annotated[int, Between(1, 2**24)]
"""As `Classes`, at least one."""
Vocabulary = Annotated[int, Between(1, 2**24)]
"""Of a text tower, 64 times Gemma's 256,000."""
Tokens = Annotated[int, Between(1, 2**14)]
"""Of a text; CLIP's 77, SigLIP's 64."""
Workers = Annotated[int, Between(0, 512)]
"""Processes that decode, 0 for threads alone: each has some hundred MB and a core, of which the
largest machines have 512. Whether a machine has the memory, `distill.data.needed` asks."""
Threads = Annotated[int, Between(1, 1024)]
"""That read and decode, in each process: 32 times what images in buckets are given."""
Gibibytes = Annotated[float, Between(0, 2**20, "low")]
"""Of memory or disk: up to 1 PiB."""
Processes = Annotated[int, Between(1, 2**20)]
"""Of a job: a million."""
Process = Annotated[int, Between(0, 2**20)]
"""The number of one of them."""
Seconds = Annotated[int, Between(1, 10**6)]
"""Up to eleven days."""
TrainedVocabulary = Annotated[int, Between(4, 2**20)]
"""Tokens learnt from captions, the four marks among them: a million."""
Pixels = Annotated[int, Between(1, 178_956_970)]
"""Of an image that is decoded: Pillow opens none with more."""
Port = Annotated[int, Between(0, 65535)]
"""Of TCP; 0 is a free one."""
Devices = Annotated[int, Between(-1, 2**20)]
"""On an axis of a mesh: a million, or −1 for all that are left."""
