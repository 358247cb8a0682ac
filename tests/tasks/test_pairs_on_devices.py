"""Tasks of pairs on eight devices: the loss, metrics and gradients of one."""

import pytest
from support import run_script

EIGHT_DEVICES = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from distill.config import resolve
from distill.nn import PairNetwork, TextConfig
from distill.parallel import MeshConfig, make_mesh, put_batch
from distill.subject import Teacher
from distill.tasks.contrastive import Contrastive, ContrastiveConfig
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from students import vit

text = TextConfig(
    vocab=24, length=6, width=16, heads=2, depth=1, mlp_dim=24, embed_dim=16)
image = vit.build(vit.configure(
    "mu/4", image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0))
pair = PairNetwork.of(image, text, embed_dim=16, bias=True)

def drawn(network, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype("float32"),
        network.abstract_params)

rng = np.random.default_rng(0)
ids = rng.integers(0, 24, (16, 6)).astype("int32")
ids[5] = ids[2]
batch = {
    "image": rng.integers(0, 256, (16, 8, 8, 3)).astype("uint8"),
    "label": np.full(16, -1, "int32"),
    "caption": ids,
    "stored/embedding/teacher": rng.standard_normal((16, 32)).astype("float32"),
}
weights = dict(kl=0, embedding_cosine=1, texts_cosine=1, similarities_softmax=1,
               similarities_sigmoid=1, captions_softmax=1)

def tasks(mesh):
    whole, locked, tower = (n.placed(mesh) for n in (pair, pair.locked(), image))
    for kind in ("sigmoid", "softmax"):
        yield kind, Contrastive(whole, ContrastiveConfig(kind=kind, block=4)), whole, None
    config = ContrastiveConfig()
    yield "locked", Contrastive(locked, config, tower=tower), locked, drawn(image, 2)
    stored = "stored/embedding/teacher"
    yield "stored", Contrastive(locked, config, stored=stored), locked, None
    matching = resolve(MatchingConfig, dict(losses=weights, mixup=0.0, block=8))
    task = FunctionMatching(whole, {"teacher": Teacher(whole)}, matching)
    yield "matching", task, whole, {"teacher": drawn(pair, 3)}

def run(mesh):
    found = {}
    for name, task, network, frozen in tasks(mesh):
        params = jax.device_put(drawn(network, 1), network.shardings)
        given = put_batch(mesh, batch, size=16)
        def loss(params, frozen, given):
            return task.loss(params, task.prepare(frozen, given, jax.random.key(0)))
        fast = {"xla_backend_optimization_level": 0}
        step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=fast)
        found[name] = [np.asarray(x) for x in jax.tree.leaves(step(params, frozen, given))]
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
    assert found.keys() == {"sigmoid", "softmax", "locked", "stored", "matching"}
    # Of sums that nearly cancel, in another order.
    assert max(found.values()) < 1e-4, found
