"""How long a run is said to go on."""

import pytest

from distill.train.remaining import Remaining, times_due


@pytest.mark.parametrize("every, total", [(1, 1), (1, 5), (3, 10), (5, 10), (10, 10), (20, 10)])
def test_what_is_due_is_counted_as_the_loop_comes_to_it(every, total):
    due = times_due(every, total)
    for step in range(total + 1):
        steps = range(max(step, 1), total + 1)
        assert due(step) == sum(one % every == 0 or one == total for one in steps)


def test_only_the_last_lines_count_with_their_waits():
    left = Remaining(1000, {})
    left.stepped(0, 0.0)
    for step in range(10, 110, 10):
        left.stepped(step, step * 1.0)
    assert left.seconds(100) == pytest.approx(900)
    # It has become ten times as slow.
    for step in range(110, 210, 10):
        left.stepped(step, 100 + (step - 100) * 10.0)
    assert left.seconds(200) == pytest.approx(8000)


def test_evaluations_that_are_to_come_count():
    left = Remaining(100, {"a/0": times_due(20, 100), "saving": times_due(50, 100)})
    left.stepped(0, 0.0)
    assert left.seconds(0) == 0
    left.stepped(20, 20.0)
    # It compiles, the first time.
    left.paused("a/0", 60.0)
    assert left.seconds(21) == pytest.approx(79 + 4 * 60)
    left.stepped(40, 40.0)
    left.paused("a/0", 5.0)
    assert left.seconds(41) == pytest.approx(59 + 3 * 5)
    left.paused("saving", 2.0)
    assert left.seconds(51) == pytest.approx(49 + 3 * 5 + 2)
    # A slow one is believed when it comes twice.
    left.paused("a/0", 9.0)
    left.paused("a/0", 8.0)
    assert left.took == {"a/0": 8.0, "saving": 2.0}


def test_a_resumed_run_knows_its_evaluations_and_not_how_fast_it_was():
    left = Remaining(1_000_000, {"a/0": times_due(1000, 1_000_000)}, {"a/0": 5.0, "gone": 7.0})
    # Training took a day before.
    left.stepped(500_000, 86400.0)
    left.stepped(500_100, 86400.0 + 10)
    assert left.seconds(500_100) == pytest.approx(49_990 + 500 * 5)
    left.paused("a/0", 65.0)
    assert left.took == {"a/0": 5.0}
