"""Batch, parts and length, by what steps take: measured here of a machine that is made up."""

import dataclasses
import types

import pytest

from distill.auto.budget import Budget, read_budget
from distill.auto.images import Images
from distill.auto.measured import SHARE, Measured
from distill.auto.sizing import choose_size
from distill.train.memory import OutOfMemory

GIB = 2**30


@dataclasses.dataclass
class MadeUp:
    """A machine on which each image takes as much memory and time as any other."""

    image_bytes: float = 0.01 * GIB
    image_seconds: float = 0.01
    free: float = 16.0 * GIB
    in_parts: bool = True
    devices: int = 1
    platform: str = "cpu"
    asked: list = dataclasses.field(default_factory=list)

    @property
    def mesh(self):
        devices = types.SimpleNamespace(flat=[types.SimpleNamespace(platform=self.platform)])
        return types.SimpleNamespace(devices=devices)

    def measure(self, config):
        """Half of the activations are computed again where that is asked for."""
        train, remat = config.train, config.remat
        self.asked.append((train.batch_size, train.microbatches, remat))
        parts = train.batch_size / self.devices / train.microbatches
        needed = parts * self.image_bytes * (0.5 if remat == "full" else 1.0)
        return Measured(train.batch_size * self.image_seconds, int(needed), int(self.free), 10.0)


def sized(machine, budget="30m", count=5000, held_out=500, most_epochs=None, **given):
    def configured(train, remat):
        said = train | {key.partition("__")[2]: value for key, value in given.items()}
        return types.SimpleNamespace(train=types.SimpleNamespace(**said), remat=remat)

    images = Images({}, count, held_out, ("a", "b"), 100, ())
    keys = [key.replace("__", ".") for key in given]
    length = dataclasses.replace(read_budget(budget), most_epochs=most_epochs)
    return choose_size(machine, configured, length, images, keys)


def test_what_fits_is_taken_whole():
    found = sized(MadeUp())
    assert found.train["batch_size"] == 128 and found.train["microbatches"] == 1
    # Four fifths of 1800 s, less 10 to compile, at 1.28 s a step.
    assert found.train["total_steps"] == int((1800 * 0.8 - 10) / 1.28) and found.remat == "none"


@pytest.mark.parametrize(
    ("budget", "batch"), [("30m", 128), ("10m", 64), ("2m", 16), ("20epochs", 128)]
)
def test_short_runs_have_smaller_batches_for_more_steps(budget, batch):
    machine = MadeUp(image_seconds=0.01 if budget != "10m" else 0.015)
    assert sized(machine, budget).train["batch_size"] == batch


def test_few_images_have_small_batches():
    assert sized(MadeUp(), count=47, held_out=13).train["batch_size"] == 16
    assert sized(MadeUp(), count=9, held_out=0).train["batch_size"] == 9


def test_what_does_not_fit_is_computed_in_parts():
    found = sized(MadeUp(image_bytes=0.5 * GIB))
    # 64 GiB, of which 80% of 16 are free.
    parts = found.train["microbatches"]
    assert found.train["batch_size"] == 128 and found.remat == "none"
    assert 128 / parts * 0.5 <= SHARE * 16 < 256 / parts * 0.5


def test_a_loss_of_whole_batches_is_computed_twice_before_batches_are_smaller():
    machine = MadeUp(image_bytes=0.15 * GIB, in_parts=False)
    found = sized(machine)
    assert found.remat == "full" and found.train["microbatches"] == 1
    assert found.train["batch_size"] == 128
    found = sized(MadeUp(image_bytes=0.5 * GIB, in_parts=False))
    assert found.remat == "full" and found.train["batch_size"] == 32


def test_what_fits_in_no_way_says_so():
    with pytest.raises(
        OutOfMemory, match=r"even for 1 images: it takes 20\.0 GiB and 16\.0 are free"
    ):
        sized(MadeUp(image_bytes=40 * GIB))


def test_what_the_user_says_is_measured_and_kept():
    machine = MadeUp()
    found = sized(machine, train__batch_size=48)
    assert found.train["batch_size"] == 48 and machine.asked == [(48, 1, "none")]
    assert "as you say" in found.choices[0].why


def test_a_budget_that_is_too_short_still_shows_all_images_twice():
    found = sized(MadeUp(image_seconds=1.0), budget="10s", count=100)
    assert found.train["total_steps"] == 13 and "too short" in found.choices[1].why
    assert found.train["batch_size"] == 16


def test_a_default_ends_after_so_many_epochs():
    found = sized(MadeUp(image_seconds=1e-4), count=48, most_epochs=300.0)
    assert found.train["total_steps"] == 900
    assert found.choices[1].chosen == "900 steps, 300 epochs"
    assert "300 epochs, as in configs" in found.choices[1].why


def test_evaluations_take_a_tenth_of_the_time_of_steps():
    train = sized(MadeUp(), budget="50epochs", count=1000, held_out=5000).train
    assert train["eval_every"] == -(-train["total_steps"] // 2)
    train = sized(MadeUp(), budget="500epochs", count=1000, held_out=100).train
    assert train["eval_every"] == -(-train["total_steps"] // 20)
    assert Budget(epochs=500).described == "500 epochs"
