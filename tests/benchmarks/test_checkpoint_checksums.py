import pytest
from support import run_python


@pytest.mark.benchmark
def test_flipped_bits_are_counted():
    done = run_python("benchmarks/bit_flips.py", "--flips=5")
    assert done.returncode == 0, done.stderr[-3000:]
    name, refused, same, another = done.stdout.splitlines()[-1].split()
    assert name == "all" and int(refused) + int(same) == 5 and another == "0"


@pytest.mark.benchmark
def test_saving_and_reading_are_timed_with_checksums_and_without():
    done = run_python("benchmarks/checksums.py", "--rounds=1")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()[-4:]]
    assert [row[:2] for row in rows] == [[a, b] for a in ("save", "read") for b in ("wall", "CPU")]
