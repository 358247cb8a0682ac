"""Where the time to the first step goes."""

import time
import types

import pytest

from distill import startup
from distill.startup import Startup, process_seconds, told


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    hand = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(startup.time, "perf_counter", lambda: hand.now)
    return hand


def test_every_moment_counts_once(clock):
    watch = Startup()
    watch.begin("import", 3.0)
    clock.now += 0.5
    watch.turn_to("other")
    clock.now += 0.25
    with watch.during("data"):
        clock.now += 1.0
        with watch.during("compile"):
            clock.now += 4.0
        clock.now += 0.5
    clock.now += 0.125
    spent = watch.finish()
    assert spent == {"import": 3.5, "other": 0.375, "data": 1.5, "compile": 4.0}
    assert told(spent) == "9.4 s: import 3.5, other 0.4, data 1.5, compile 4.0"


def test_another_run_of_the_process_begins_with_its_own_first_word(clock):
    watch = Startup()
    watch.begin("import", 3.0)
    watch.finish()
    clock.now += 1000.0
    with watch.during("data"):
        clock.now += 2.0
    clock.now += 1.0
    assert watch.finish() == {"data": 2.0, "other": 1.0}


def test_an_error_ends_what_it_happened_in(clock):
    watch = Startup()
    watch.begin("config")
    with pytest.raises(OSError), watch.during("data"):
        clock.now += 1.0
        raise OSError
    clock.now += 2.0
    assert watch.finish() == {"config": 2.0, "data": 1.0}


def test_a_process_has_been_there_for_as_long_as_the_system_says():
    assert 0 <= process_seconds() < 24 * 3600
    before = process_seconds()
    time.sleep(0.05)
    assert process_seconds() == 0 or 0.02 < process_seconds() - before < 10
