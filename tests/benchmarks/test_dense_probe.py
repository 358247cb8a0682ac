import pytest
from support import run_python


@pytest.mark.benchmark
def test_a_probe_on_patches_is_timed_and_finds_their_classes():
    options = ("--tokens=3000", "--width=20", "--classes=4", "--images=10")
    done = run_python("benchmarks/dense_probe.py", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["moments", "fit", "predictions", "all"]
    # One in four by chance.
    assert float(lines[5].split("; ")[-1].removesuffix(" correct")) > 0.4
