"""Schedules against reference values and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.optim import ScheduleConfig, make_schedule

PAPER = make_schedule(
    ScheduleConfig(
        kind="rsqrt", warmup_steps=10_000, timescale_steps=10_000, cooldown_steps=50_000
    ),
    1_000_000,
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (5_000, 4e-4),
        (10_000, 8e-4),
        (100_000, 2.53e-4),
        (950_000, 8.21e-5),
        (975_000, 4.05e-5),
        (999_999, 1.6e-9),
    ],
)
def test_rsqrt_has_the_reference_values_of_vit_g(step, rate):
    assert 8e-4 * float(PAPER(step)) == pytest.approx(rate, rel=1e-2)


def test_rsqrt_ends_at_zero():
    assert float(PAPER(1_000_000)) == 0.0


def sample(config, total, steps):
    schedule = make_schedule(config, total)
    return [float(schedule(step)) for step in steps]


def test_cosine_runs_from_one_to_zero_after_warmup():
    values = sample(ScheduleConfig(kind="cosine", warmup_steps=10), 110, [5, 10, 35, 60, 110])
    expected = [0.5, 1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.0]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7)


def test_linear_runs_from_one_to_zero_after_warmup():
    values = sample(ScheduleConfig(kind="linear", warmup_steps=10), 110, [0, 5, 10, 35, 60, 110])
    np.testing.assert_allclose(values, [0, 0.5, 1, 0.75, 0.5, 0], rtol=1e-5, atol=1e-7)


def test_constant_stays_until_cooldown():
    config = ScheduleConfig(kind="constant", warmup_steps=4, cooldown_steps=10)
    values = sample(config, 100, [0, 2, 4, 50, 90, 95, 99, 100])
    np.testing.assert_allclose(values, [0, 0.5, 1, 1, 1, 0.5, 0.1, 0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["rsqrt", "constant", "cosine", "linear"])
def test_without_warmup_the_first_step_is_the_peak(kind):
    config = ScheduleConfig(kind=kind, warmup_steps=0, cooldown_steps=0)
    assert float(make_schedule(config, 20)(0)) == 1.0


@pytest.mark.parametrize("kind", ["rsqrt", "constant", "cosine", "linear"])
def test_every_schedule_stays_between_zero_and_one(kind):
    config = ScheduleConfig(kind=kind, warmup_steps=3, timescale_steps=2, cooldown_steps=4)
    values = np.asarray(jax.vmap(make_schedule(config, 20))(jnp.arange(30)))
    assert values.min() >= 0
    assert values.max() == pytest.approx(1.0)
    assert np.argmax(values) == 3
    assert (values[20:] == 0).all()


def test_branches_of_one_long_run_share_its_rate_until_they_cool_down():
    """Train one, get many: only the cooldown knows how long the run is."""
    config = ScheduleConfig(kind="rsqrt", warmup_steps=10, timescale_steps=10, cooldown_steps=20)
    short, long = make_schedule(config, 100), make_schedule(config, 1000)
    for step in (0, 5, 10, 40, 80):
        assert float(short(step)) == float(long(step))
    assert float(short(90)) == pytest.approx(0.5 * float(long(90)))


def test_schedule_is_traceable():
    assert float(jax.jit(PAPER)(jnp.int32(5_000))) == pytest.approx(0.5)


@pytest.mark.parametrize(("warmup", "cooldown"), [(60, 50), (101, 0), (0, 101)])
def test_warmup_and_cooldown_longer_than_the_run_are_refused(warmup, cooldown):
    config = ScheduleConfig(warmup_steps=warmup, cooldown_steps=cooldown)
    with pytest.raises(ValueError, match="longer than the run") as error:
        make_schedule(config, 100)
    assert all(str(n) in str(error.value) for n in (warmup, cooldown, 100))


def test_warmup_and_cooldown_may_fill_the_run():
    config = ScheduleConfig(kind="constant", warmup_steps=60, cooldown_steps=40)
    assert sample(config, 100, [30, 60, 80]) == pytest.approx([0.5, 1.0, 0.5])


@pytest.mark.parametrize(
    "choice",
    [{"warmup_steps": -1}, {"cooldown_epochs": -0.5}, {"warmup_percent": 101}],
)
def test_impossible_durations_are_refused(choice):
    with pytest.raises(ValueError, match=next(iter(choice))):
        ScheduleConfig(**choice)


def test_a_timescale_of_no_step_is_refused():
    with pytest.raises(ValueError, match="timescale must be at least 1 step, not 0"):
        make_schedule(ScheduleConfig(timescale_steps=0, warmup_steps=0), 100)


def test_a_duration_in_two_units_is_refused():
    with pytest.raises(ValueError, match="one of warmup_steps and warmup_epochs"):
        ScheduleConfig(warmup_steps=1, warmup_epochs=1)


@pytest.mark.parametrize(
    "durations",
    [
        dict(warmup_epochs=0.5, timescale_epochs=2.0, cooldown_epochs=1.0),
        dict(warmup_examples=160, timescale_examples=640, cooldown_examples=320),
        dict(warmup_percent=5.0, timescale_percent=20.0, cooldown_percent=10.0),
    ],
)
def test_a_duration_means_the_same_in_every_unit(durations):
    in_steps = ScheduleConfig(warmup_steps=10, timescale_steps=40, cooldown_steps=20)
    other = make_schedule(ScheduleConfig(**durations), 200, batch_size=16, images=320)
    for step in range(0, 200, 7):
        assert float(other(step)) == float(make_schedule(in_steps, 200)(step))


def test_epochs_need_a_number_of_images():
    with pytest.raises(ValueError, match="cooldown_epochs needs data to count"):
        make_schedule(ScheduleConfig(cooldown_epochs=1.0), 20_000, batch_size=16)
