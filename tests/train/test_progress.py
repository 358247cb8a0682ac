"""What a person reads of a run while it runs."""

import pytest

from distill.train import progress
from distill.train.progress import Progress, format_figure, format_seconds, format_steps

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.5, "1:00"),
        (3 * MINUTE + 20, "3:20"),
        (HOUR - 0.6, "59:59"),
        (HOUR - 0.4, "1:00:00"),
        (2 * HOUR + 5 * MINUTE, "2:05:00"),
        (DAY - 1, "23:59:59"),
        (DAY - 0.1, "1d 0h"),
        (3 * DAY + 4 * HOUR + 59 * MINUTE, "3d 4h"),
        (400 * DAY + 23 * HOUR, "400d 23h"),
    ],
)
def test_durations_are_read_in_their_own_units(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    "step, total, text",
    [
        (1, 10, "1/10 (10%)"),
        (500, 9999, "500/9,999 (5%)"),
        (12_345, 1_200_000, "12,345/1,200,000 (1.0%)"),
        (1_199_999, 1_200_000, "1,199,999/1,200,000 (99.9%)"),
        (1_200_000, 1_200_000, "1,200,000/1,200,000 (100.0%)"),
        (999, 1000, "999/1,000 (99%)"),
        (29, 100, "29/100 (29%)"),
    ],
)
def test_steps_of_long_runs_can_be_read(step, total, text):
    assert format_steps(step, total) == text


def test_the_rest_is_estimated_from_what_this_start_has_done(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    line = Progress("distill", 1_200_000, start_step=200_000)
    now[0] += 1000.0
    row = {"train/loss": 0.12345, "train/images_per_second": 40960.4, "train/data_wait": 0.034}
    line.show(204_000, {"student": row})
    assert capsys.readouterr().err == (
        "distill 204,000/1,200,000 (17.0%)  loss 0.1235  40,960 images/s  data wait 3%  "
        "ETA 2d 21h\n"
    )


def test_figures_are_read_as_people_write_them():
    assert format_figure("val/kl", 0.04281) == "0.0428"
    assert format_figure("probe/l2", 1e-5) == "1.0e-05"
    assert format_figure("parameters", 1_234_567) == "1,234,567"
