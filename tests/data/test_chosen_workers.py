import os

import pytest

from distill.data import workers
from distill.data.workers import allow_workers, chosen_workers


@pytest.fixture
def machine(monkeypatch):
    def has(cores):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)

    monkeypatch.setattr(workers, "_in_a_command", False)
    return has


@pytest.mark.parametrize(
    ("cores", "images", "expected"),
    [(2, 10**6, 0), (7, 10**6, 0), (8, 10**6, 2), (8, 9_999, 0), (8, 10_000, 2), (96, 10**6, 24)],
)
def test_a_command_has_a_worker_for_four_cores(machine, cores, images, expected):
    machine(cores)
    allow_workers()
    assert chosen_workers(None, images) == expected


def test_another_program_has_none_unless_it_asks(machine):
    machine(96)
    assert chosen_workers(None, 10**6) == 0
    assert chosen_workers(3, 10) == 3


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_what_was_asked_for_is_done(machine, asked):
    machine(96)
    allow_workers()
    assert chosen_workers(asked, 10**6) == asked
