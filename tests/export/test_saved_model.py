"""The exported model is the model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import runtimes_in_this_process
from support import run_python

from distill.errors import UserError
from distill.export import images
from distill.export.saved_model import WARMUP
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from pipelines import export
from students import vit

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runtimes_in_this_process")]

SERVE = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for name in ("jax", "flax", "distill", "optax", "keras"): sys.modules[name] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
(name, spec), = serve.structured_input_signature[1].items()
out = {}
with np.load(sys.argv[2]) as images:
    for size in images:
        for key, value in serve(**{name: tf.constant(images[size])}).items():
            out[f"{size}/{key}"] = value.numpy()
np.savez(sys.argv[3], **out)
names = tf.io.read_file(model.class_names.asset_path).numpy().decode().split()
print(json.dumps({"shape": spec.shape.as_list(), "dtype": spec.dtype.name, "classes": names}))
"""


@pytest.fixture(scope="module")
def exported(teacher_workdir, tmp_path_factory):
    """The first version of the teacher."""
    with runtimes_in_this_process():
        return export.run(teacher_workdir, tmp_path_factory.mktemp("served"))["saved_model"]


def test_exported_model_equals_jax_without_jax(exported, teacher_workdir, tmp_path):
    version = exported.path
    assert version.name == "1"
    assert exported.checked[0].difference <= 1e-4
    assert (version / WARMUP).is_file()

    rng = np.random.default_rng(1)
    images = {str(n): rng.integers(0, 256, (n, 8, 8, 1), np.uint8) for n in (1, 3, 64)}
    np.savez(tmp_path / "in.npz", **images)
    done = run_python("-I", "-c", SERVE, version, tmp_path / "in.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"shape": [None, 8, 8, 1], "dtype": "uint8", "classes": list("0123456789")}

    opened = open_model(teacher_workdir, make_mesh(MeshConfig()))
    network, params = opened.network, opened.params
    outputs = np.load(tmp_path / "out.npz")
    for size, batch in images.items():
        expected = network.apply(params, jnp.asarray(batch, jnp.float32) / 127.5 - 1)
        np.testing.assert_allclose(outputs[f"{size}/logits"], expected.logits, atol=1e-4)
        np.testing.assert_allclose(outputs[f"{size}/embedding"], expected.embedding, atol=1e-4)
        # The teacher was trained with sigmoid cross-entropy.
        probabilities = 1 / (1 + np.exp(-np.asarray(expected.logits, np.float64)))
        np.testing.assert_allclose(outputs[f"{size}/probabilities"], probabilities, atol=1e-5)


def test_versions_count_up_and_nothing_else_is_left(exported, teacher_workdir):
    second = export.run(teacher_workdir, exported.path.parent)["saved_model"]
    assert [exported.path.name, second.path.name] == ["1", "2"]
    assert sorted(p.name for p in exported.path.parent.iterdir()) == ["1", "2"]


@pytest.fixture
def network():
    return vit.build(vit.configure("mu/4", image_size=8, channels=3, num_classes=5))


def test_softmax_probabilities_sum_to_one(network):
    params = network.init(jax.random.key(0))
    shown = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    served = images.serving_function(network, "softmax")(params, shown)
    np.testing.assert_allclose(served["probabilities"].sum(-1), 1.0, rtol=1e-6)


def test_unwritable_output_is_refused(teacher_workdir, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        export.run(teacher_workdir, tmp_path / "file" / "out")
