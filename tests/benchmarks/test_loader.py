import json

import pytest
from support import run_python


@pytest.mark.benchmark
def test_loaders_are_measured_side_by_side(tmp_path):
    file = tmp_path / "figures.json"
    options = ("--images=70", "--batches=1", "--rounds=1", "--cores=2", f"--json={file}")
    done = run_python("benchmarks/loader.py", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found.keys() == {"training views", "evaluation views"}
    for named in found.values():
        assert {"tf.data", "torch", "files", "files, Pillow", "prepared"} <= named.keys()
        assert named["tf.data"]["ratio_to_tf.data"] == 1
        assert all(one["per_cpu_second"] > 0 for one in named.values())
        assert all(name in done.stdout for name in named)
