"""TPU slices by name."""

import os

from support import run_python


def test_without_libtpu_it_says_what_to_install():
    code = """
import sys
sys.modules["libtpu"] = None
from distill.estimate.topology import open_topology
open_topology("v5e:1x1")
"""
    # Once JAX has found libtpu, it tells child processes.
    env = {key: value for key, value in os.environ.items() if key != "TPU_LIBRARY_PATH"}
    done = run_python("-c", code, env=env | {"JAX_PLATFORMS": "cpu"})
    assert "distill.errors.UserError: planning compiles with libtpu" in done.stderr
    assert "pip install 'distill-vit[plan]'" in done.stderr
