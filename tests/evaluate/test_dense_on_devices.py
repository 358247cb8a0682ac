"""Figures of frozen tokens depend neither on devices nor on processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import dense_images as data
import pytest
from clips_of_dots import write_dots
from davis_of_squares import squares, write_sequence
from support import REPOSITORY

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("dense_on_devices.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    write_dots(root / "dots", 5)
    write_sequence(root / "davis", "one", *squares(5, 21, 30))
    pixels = data.write(root / "masks"), data.write(root / "depths", depths=True)
    return *pixels, root / "dots", root / "davis"


def started(folders, devices, *where):
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    environment = os.environ | {"PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": str(devices)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, folders), *map(str, where)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def figures(process):
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def test_figures_are_the_same_on_one_device_eight_and_in_two_processes(folders):
    one, eight = (figures(started(folders, devices)) for devices in (1, 8))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [started(folders, 4, address, 2, number) for number in range(2)]
    assert one["ridge/mean_iou"] > 0.4 and "depth/rmse" in one and "knn/mean_iou" in one
    assert 0 < one["objects/j"] < 1 and "clips/accuracy" in one
    for other in (eight, *map(figures, both)):
        assert other == pytest.approx(one, abs=1e-6)
