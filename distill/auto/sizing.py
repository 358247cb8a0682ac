"""How much at once and for how long: batch, microbatches and steps, by what a step takes."""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any

from distill.auto.budget import Budget
from distill.auto.choices import Choice
from distill.auto.images import Images
from distill.auto.measured import Measured, Rig
from distill.train.memory import OutOfMemory
from distill.train.progress import format_seconds
from distill.train.run import RunConfig

Configured = Callable[[dict[str, Any], str], RunConfig]
"""The config of a run with a section `train` and a way to recompute activations."""

# The largest batches, of steps that are compiled for CPUs and for others: recipes of the papers
# have more, of more images and longer runs.
_MOST_CPU, _MOST = 128, 512
# The first batch that is timed.
_FIRST_CPU, _FIRST = 16, 128
# So many batches make an epoch, if batches need not be larger than the first for it.
_BATCHES = 8
# Steps that a run should have, in place of larger batches.
_ENOUGH = 500
# Of the budget: what else than steps a run takes, such as evaluations and exports.
_BESIDE = 0.2
# Below which a budget makes no run.
_FEWEST_EPOCHS, _FEWEST_STEPS = 2.0, 100
# Evaluations may take so much of what steps take.
_EVALUATING = 0.1
# Seconds between checkpoints, at least and at most, and between lines of progress.
_SAVED, _SAVED_LATEST, _TOLD = 20.0, 600.0, 5.0


@dataclasses.dataclass(frozen=True)
class Sized:
    """How a run is cut."""

    train: dict[str, Any]
    """The keys of `config.train`."""
    remat: str
    choices: tuple[Choice, ...]


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A batch, and how it is computed."""

    batch: int
    parts: int = 1
    remat: str = "none"

    @property
    def train(self) -> dict[str, Any]:
        return dict(batch_size=self.batch, microbatches=self.parts, total_steps=1_000_000)


def choose_size(
    rig: Rig,
    configured: Configured,
    budget: Budget,
    images: Images,
    given: Collection[str],
) -> Sized:
    """Measures steps, and chooses the batch and the length of the run.

    Args:
      rig: the run's parts.
      configured: makes configs to measure.
      budget: how long it may be.
      images: the run's.
      given: keys of the config that the user has said.

    Raises:
      OutOfMemory: if no step fits.
    """
    platform = rig.mesh.devices.flat[0].platform
    cpu = platform == "cpu"
    most = _power(images.train // _BATCHES, rig.devices)
    most = min(max(most, _FIRST_CPU), _MOST_CPU if cpu else _MOST, images.train)
    most = max(most - most % rig.devices, rig.devices)
    first = min(_FIRST_CPU if cpu else _FIRST, most)
    asked = _asked("train.batch_size", given, configured)
    cut, found = _fitting(rig, configured, _Cut(asked or first), given)
    if not asked and cut.batch == first:
        batch = _affordable(found.seconds / first, first, most, budget, rig.devices)
        if batch != first:
            cut, found = _fitting(rig, configured, _Cut(batch), given)
    steps, length = _length(found, cut.batch, budget, images)
    train = {**cut.train, "total_steps": steps, **_intervals(found.seconds, steps, cut, images)}
    batch = _said_batch(cut, found, platform, bool(asked))
    return Sized(train, cut.remat, (batch, length))


def _asked(key: str, given: Collection[str], configured: Configured) -> int | None:
    if key not in given:
        return None
    return configured(_Cut(1).train, "none").train.batch_size


def _power(number: int, devices: int) -> int:
    """The largest power of two times the devices that is no larger than a number, or 0."""
    share = number // devices
    return devices << (share.bit_length() - 1) if share else 0


def _affordable(image_seconds: float, first: int, most: int, budget: Budget, devices: int) -> int:
    """The largest batch of which a run in time has enough steps."""
    if budget.seconds is None:
        return most
    found = _power(int((1 - _BESIDE) * budget.seconds / image_seconds / _ENOUGH), devices)
    return min(max(found, first), most)


def _fitting(
    rig: Rig, configured: Configured, cut: _Cut, given: Collection[str]
) -> tuple[_Cut, Measured]:
    """The cut that fits into memory: in parts, then with activations computed twice, then smaller.

    Raises:
      OutOfMemory: if none does.
    """
    fixed = "train.microbatches" in given
    while True:
        found = rig.measure(configured(cut.train, cut.remat))
        if found.too_large <= 1:
            return cut, found
        share = cut.batch // rig.devices
        parts = cut.parts << max(math.ceil(math.log2(found.too_large)), 1)
        if rig.in_parts and not fixed and cut.parts < share:
            cut = dataclasses.replace(cut, parts=_divisor(min(parts, share), share))
        elif cut.remat == "none":
            cut = dataclasses.replace(cut, remat="full")
        elif share > 1 and "train.batch_size" not in given:
            batch = cut.batch // 2
            cut = _Cut(batch, min(cut.parts, _divisor(cut.parts, batch // rig.devices)), "full")
        else:
            raise OutOfMemory(
                f"a step does not fit into memory even for {cut.batch} images: it takes "
                f"{found.needed / 2**30:.1f} GiB and {(found.free or 0) / 2**30:.1f} are free. "
                "Give a smaller --student, or smaller images: --config.model.image_size=112"
            )


def _divisor(parts: int, share: int) -> int:
    """The least number of parts, no less than asked for, that cuts a share evenly."""
    return next(n for n in range(min(parts, share), share + 1) if share % n == 0)


def _length(found: Measured, batch: int, budget: Budget, images: Images) -> tuple[int, Choice]:
    spare = _BESIDE * (budget.seconds or 0) + found.compiled
    steps = budget.length(found.seconds, batch, images.train, spare)
    an_epoch = images.train / batch
    why = f"of the budget, {budget.described}"
    if budget.seconds is not None:
        least = min(math.ceil(_FEWEST_EPOCHS * an_epoch), _FEWEST_STEPS)
        if budget.most_epochs is not None and steps >= budget.most_epochs * an_epoch:
            why = f"{budget.most_epochs:,g} epochs, as in configs; --budget= gives more or less"
        elif steps < least:
            steps, why = least, f"the least there is; the budget, {budget.described}, is too short"
        else:
            why += ", four fifths go into steps"
    took = format_time(found.seconds)
    why += f"; a step took {took}, so about {format_seconds(steps * found.seconds)} of steps"
    if budget.seconds is not None and budget.most_epochs is None:
        why += "; timing steps before, measuring and exporting after come beside the budget"
    said = f"{steps:,} steps, {steps / an_epoch:,.3g} epochs"
    keys = ("train.total_steps", "train.total_epochs", "train.total_examples")
    return steps, Choice("length", said, why, keys)


def format_time(seconds: float) -> str:
    """Such as 12 ms or 3.4 s."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _intervals(seconds: float, steps: int, cut: _Cut, images: Images) -> dict[str, int]:
    """Steps between lines of progress, evaluations and checkpoints."""
    # Both splits and new views are looked at; without a held-out split, views alone.
    looked_at = 2 * images.held_out or min(images.train, 10_000)
    evaluation = looked_at * seconds / cut.batch
    times = min(max(int(_EVALUATING * steps * seconds / max(evaluation, 1e-9)), 2), 20)
    saved = max(math.ceil(steps / 20), math.ceil(_SAVED / seconds))
    return dict(
        log_every=max(min(round(_TOLD / seconds), math.ceil(steps / 20), 100), 1),
        eval_every=math.ceil(steps / times),
        checkpoint_every=max(min(saved, math.ceil(_SAVED_LATEST / seconds), steps), 1),
    )


def _said_batch(cut: _Cut, found: Measured, platform: str, asked: bool) -> Choice:
    memory = f"a step takes {found.needed / 2**30:.2g} GiB beside its parameters"
    if found.free is not None:
        memory += f", and {found.free / 2**30:.3g} are free"
    ways = [f"in {cut.parts} parts, for the same update"] if cut.parts > 1 else []
    ways += ["with activations computed twice"] if cut.remat == "full" else []
    chosen = f"{cut.batch} images" + "".join(f", {way}" for way in ways)
    why = f"as you say; {memory}" if asked else memory
    keys = ("train.batch_size", "train.microbatches")
    return Choice("batch", chosen, f"{why} ({platform})", keys)
