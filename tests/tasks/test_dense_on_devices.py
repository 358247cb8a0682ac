"""Terms of tokens and layers on eight devices: the loss, metrics and gradients of one."""

import pytest
from support import run_script

EIGHT_DEVICES = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from distill.config import resolve
from distill.parallel import MeshConfig, make_mesh, put_batch, replicated
from distill.subject import Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching, projected
from distill.tasks.matching.standardise import STATISTICS, batch_moments
from students import vit

def network(**choices):
    shape = dict(width=16, heads=2, depth=2, mlp_dim=24, image_size=8, num_classes=0, head="gap")
    return vit.build(vit.configure("mu/4", **shape | choices))

def drawn(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (0.3 * rng.standard_normal(x.shape)).astype("float32"), tree)

weights = dict(kl=0, tokens_cosine=0.9, tokens_smooth_l1=0.1, tokens_gram=1, layers_mse=1,
               layers_gram=1, embedding_smooth_l1=1)
rng = np.random.default_rng(0)
batch = {
    "image": rng.integers(0, 256, (16, 16, 16, 3)).astype("uint8"),
    "label": np.full(16, -1, "int32"),
}

def run(mesh):
    found = {}
    for kind in ("none", "phi_s"):
        matching = resolve(MatchingConfig, dict(
            losses=weights, layers=((1, 2), (2, 3)), standardise=kind))
        # One that sees views at twice the student's side, and has twice its grid.
        teacher = Teacher(network(width=32, depth=3, image_size=16).placed(mesh))
        student = projected(network().placed(mesh), {"t": teacher}, matching)
        task = FunctionMatching(student, {"t": teacher}, matching)
        params = jax.device_put(drawn(student.abstract_params, 1), student.shardings)
        frozen = {"t": jax.device_put(
            drawn(teacher.network.abstract_params, 2), teacher.network.shardings)}
        if task.standardised:
            frozen[STATISTICS] = jax.device_put(
                drawn(task.abstract_statistics, 3), replicated(mesh))
        given = put_batch(mesh, batch, size=16)
        def loss(params, frozen, given):
            prepared = task.prepare(frozen, given, jax.random.key(0))
            moments = batch_moments(prepared.teachers, ("tokens", "layers"), "phi_s")
            value, metrics = task.loss(params, prepared)
            return value, (metrics, moments)
        fast = {"xla_backend_optimization_level": 0}
        step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=fast)
        found[kind] = [np.asarray(x) for x in jax.tree.leaves(step(params, frozen, given))]
    return found

alone = run(make_mesh(MeshConfig(), jax.devices()[:1]))
worst = {}
for sizes in (dict(data=8), dict(data=2, fsdp=2, tensor=2)):
    for name, values in run(make_mesh(MeshConfig(**sizes))).items():
        error = max(
            float(np.max(np.abs(a - b) / (1e-3 + np.max(np.abs(a)))))
            for a, b in zip(alone[name], values, strict=True))
        worst[name] = max(error, worst.get(name, 0.0))
print(json.dumps(worst))
"""


@pytest.mark.slow
def test_eight_devices_find_what_one_does():
    found = run_script(EIGHT_DEVICES)
    assert found.keys() == {"none", "phi_s"}
    # Of sums that nearly cancel, in another order.
    assert max(found.values()) < 1e-4, found
