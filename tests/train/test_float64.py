"""With JAX's 64-bit types switched on, what is float32 stays float32."""

import pytest
from support import run_script

# A run that averages its weights, a student of it, and a probe; what is stored, by dtype.
RUNS = """
import json, sys, tempfile
from pathlib import Path
sys.path[:0] = ["tests"]

import jax, numpy as np, orbax.checkpoint as ocp
from support import distill_config, pretrain_config
from distill.evaluate.probe import fit_probe
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain

short = dict(train__total_steps=3, train__batch_size=16, train__eval_every=3)
root = Path(tempfile.mkdtemp())
rules = dict(
    model__head="cls",
    optimizer__average_decay=0.9,
    optimizer__layer_decay=0.75,
    optimizer__freeze='(("encoder/blocks/0/", True),)',
)
teacher = pretrain_config(**short, **rules)
trained = [pretrain.run(teacher, Workdir(root / "teacher"), overview=False)]
student = distill_config(root / "teacher", **short, matching__cutmix=1.0)
trained.append(distill_student.run(student, Workdir(root / "student"), overview=False))
stored = set()
for item in root.glob("*/checkpoints/3/*"):
    if (item / "_METADATA").exists():
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata(item).item_metadata
            stored |= {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
features = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
labels = (features[:, 0] > 0).astype(np.int64)
mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
probe = fit_probe(features, labels, 2, mesh=mesh)
print(json.dumps({
    "x64": jax.config.jax_enable_x64,
    "params": sorted({str(x.dtype) for t in trained for x in jax.tree.leaves(t.params)}),
    "stored": sorted(stored),
    "evaluated": all("test/accuracy" in t.summary for t in trained),
    "probe": probe.classifier.accuracy(features, labels),
}))
"""


@pytest.mark.slow
def test_runs_keep_and_store_float32():
    found = run_script(RUNS, JAX_ENABLE_X64="1")
    assert found.pop("x64") is True
    assert found.pop("probe") > 0.9
    assert found == {
        "params": ["float32"],
        "stored": ["bfloat16", "float32", "int32"],
        "evaluated": True,
    }
