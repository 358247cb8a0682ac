"""What a process with eight devices finds when it trains on different meshes, as JSON.

  python on_eight_devices.py TEACHER

TEACHER is the workdir of a tiny teacher that was trained on one device.
"""

import functools
import json
import math
import re
import sys
from pathlib import Path

import jax
import numpy as np

from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import MeshConfig, make_mesh, override_rules, put_batch
from distill.runs.opened import open_model
from distill.subject import Teacher
from distill.tasks.classification import Classification, ClassificationConfig
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.train.state import init_state
from distill.train.step import Learner, make_train_step
from students import vit
from teachers import vit_22b

STEPS, BATCH, SIDE, CLASSES, DEPTH, WIDTH = 10, 32, 8, 40, 2, 64
ONE, FSDP, CUBE = (1, 1, 1), (1, 8, 1), (2, 2, 2)
MESHES = (FSDP, (1, 1, 8), CUBE)
# Of the teacher alone.
RULES = (("embed", ()), ("residual", ()))
# Of the parameters that two runs are compared by; later, rounding has had time to grow.
SNAPSHOT = 3
# Every axis divides by eight; kernels of the MLP and the classifier have factored moments.
SHAPE = dict(
    width=WIDTH,
    depth=DEPTH,
    mlp_dim=WIDTH,
    heads=8,
    image_size=SIDE,
    num_classes=CLASSES,
    head="gap",
)


def mesh_of(sizes):
    data, fsdp, tensor = sizes
    devices = jax.devices()[: math.prod(sizes)]
    return make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor), devices)


def batches(mesh):
    """Different batches, the same ones on every mesh."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        batch = {
            "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
            "label": rng.integers(0, CLASSES, BATCH, np.int32),
        }
        yield put_batch(mesh, batch, size=BATCH)


def optimizer_of(name, network):
    config = OptimizerConfig(
        name=name, learning_rate=2e-3, weight_decay=(("kernel$", 1e-3),), clip_norm=0.5
    )
    schedule = make_schedule(ScheduleConfig(warmup_steps=2), STEPS)
    return make_optimizer(config, schedule, network.abstract_params, network.axes)


def teacher_of(mesh, rules=(), dtype="float32"):
    config = vit_22b.configure("22B/4", dtype=dtype, **SHAPE)
    return vit_22b.build(config).placed(mesh, override_rules(rules))


@functools.cache
def drawn(dtype):
    teacher = teacher_of(mesh_of(ONE), dtype=dtype)

    def draw(key):
        params = teacher.init(key)
        # A classifier starts at zero, and a teacher without an opinion would test nothing.
        kernel = params["classifier"]["kernel"]
        params["classifier"]["kernel"] = jax.random.normal(key, kernel.shape)
        return jax.tree.map(lambda p: p.astype(teacher.config.compute_dtype), params)

    return jax.device_get(jax.jit(draw)(jax.random.key(1)))


def train(mesh, network, task, optimizer, frozen=None, *, microbatches=1):
    """What every step logs, the parameters after the first few, and the compiled program."""
    optimizer = optimizer_of(optimizer, network)
    state = init_state(network, optimizer, seed=0)
    placement = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(Learner(task, optimizer), 0, placement, microbatches=microbatches)
    step = step.lower(state, frozen, next(batches(mesh))).compile()
    history = []
    for number, batch in enumerate(batches(mesh), start=1):
        state, metrics = step(state, frozen, batch)
        history.append({name: float(value) for name, value in metrics.items()})
        if number == SNAPSHOT:
            params = jax.tree.map(np.asarray, state.params)
    return {"history": history, "params": params, "program": step.as_text()}


@functools.cache
def pretrain(sizes, microbatches=1):
    mesh = mesh_of(sizes)
    network = teacher_of(mesh)
    task = Classification(network, ClassificationConfig(mixup=0.2))
    return train(mesh, network, task, "adafactor", microbatches=microbatches)


@functools.cache
def distil(sizes, rules=(), dtype="float32"):
    mesh = mesh_of(sizes)
    teacher = teacher_of(mesh, rules, dtype)
    student = vit.build(vit.configure("S/4", **SHAPE)).placed(mesh)
    task = FunctionMatching(student, {"teacher": Teacher(teacher)}, MatchingConfig())
    params = jax.device_put(drawn(dtype), teacher.shardings)
    return train(mesh, student, task, "adam", {"teacher": params})


def apart(run, other):
    """The largest relative differences in each logged metric and in the parameters."""
    found = {
        name: max(
            abs(a[name] - b[name]) / max(abs(b[name]), 1e-30)
            for a, b in zip(run["history"], other["history"], strict=True)
        )
        for name in ("loss", "grad_norm")
    }
    pairs = zip(*(jax.tree.leaves(r["params"]) for r in (run, other)), strict=True)
    # Of the whole tree: a first moment that bfloat16 rounds the other way moves single entries.
    squares = np.sum([(np.sum((a - b) ** 2), np.sum(b**2)) for a, b in pairs], axis=0)
    return found | {"params": float(np.sqrt(squares[0] / squares[1]))}


def largest_gather(program):
    """Elements of the largest array that devices put together from their parts."""
    results = re.findall(r"= (.*) all-gather(?:-start)?\(", program)
    shapes = re.findall(r"\w+\[([\d,]*)\]", " ".join(results))
    return max(math.prod(map(int, shape.split(","))) for shape in shapes if shape)


def loaded_parts(teacher):
    """Of each parameter of a loaded model: its shape, a part's, and how many parts there are."""
    opened = open_model(teacher, mesh_of(FSDP))
    network, params = opened.network, opened.params
    assert params["classifier"]["kernel"].sharding.mesh.shape["fsdp"] == 8
    assert jax.tree.map(lambda p: p.sharding, params) == network.shardings
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            list(leaf.shape),
            list(leaf.addressable_shards[0].data.shape),
            len({str(shard.index) for shard in leaf.addressable_shards}),
        ]
        for path, leaf in jax.tree.leaves_with_path(params)
    }


def main(teacher):
    names = {str(sizes): sizes for sizes in MESHES}
    return {
        "devices": len(jax.devices()),
        "losses": {f.__name__: [h["loss"] for h in f(ONE)["history"]] for f in (pretrain, distil)},
        "pretrain": {name: apart(pretrain(sizes), pretrain(ONE)) for name, sizes in names.items()},
        "distil": {str(sizes): apart(distil(sizes), distil(ONE)) for sizes in (FSDP, CUBE)},
        "rules": apart(distil(CUBE, RULES), distil(ONE)),
        "bfloat16": apart(distil(CUBE, dtype="bfloat16"), distil(ONE)),
        "microbatches": {
            f"{count} on {sizes}": apart(pretrain(sizes, count), pretrain(ONE))
            for sizes, count in ((CUBE, 4),)
        },
        "largest_gather": largest_gather(distil(FSDP)["program"]),
        "smallest_stack": DEPTH * WIDTH * WIDTH,
        "loaded": loaded_parts(teacher),
    }


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    # Compiling takes nearly all the time here, and less without optimisation.
    jax.config.update("jax_disable_most_optimizations", True)
    print(json.dumps(main(Path(sys.argv[1]))))
