"""The benchmark as a user runs it, on tiny models, and the reference against this project's."""

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import run_python

from benchmarks import step_ratio
from benchmarks.ratio_programs import ratio_job
from benchmarks.reference_step import (
    Reference,
    ReferenceViT,
    reference_batch,
    reference_optimizer,
    reference_params,
)
from benchmarks.training_step import DECAY, RATE, optimizer_of, random_batches, teacher_params
from distill.parallel import MeshConfig, make_mesh
from distill.train.state import init_state
from distill.train.step import Learner, make_train_step

pytestmark = pytest.mark.benchmark

SIZES = ["--width=16", "--depth=2", "--mlp_dim=32", "--heads=2"]
TINY = [*SIZES, "--image_size=32", "--num_classes=5", "--batch_size=2"]


def arguments(*more):
    return step_ratio.parser_of().parse_args([*TINY, *more])


@pytest.fixture
def mesh():
    return make_mesh(MeshConfig(), jax.devices()[:1])


def drawn_params(network):
    """None of them 0, as a classifier's are where they begin."""
    params = jax.jit(network.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return tree.unflatten([x + 0.1 * jax.random.normal(key, x.shape) for x, key in pairs])


@pytest.mark.parametrize("head", ["map", "gap"])
@pytest.mark.parametrize("layer", ["scanned", "unrolled"])
def test_the_reference_has_the_logits_and_gradients_of_this_model(head, layer, mesh):
    args = arguments("--task=pretrain", "--dtype=float32", f"--layer={layer}", f"--head={head}")
    network = ratio_job(args, mesh).network
    params = drawn_params(network)
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    reference = ReferenceViT(network.config, layer == "scanned")

    def ours(params):
        return network.apply(params, images).logits

    def theirs(params) -> Any:
        other = reference_params(params, network.config, layer == "scanned")
        return reference.apply({"params": other}, images)

    np.testing.assert_allclose(theirs(params), ours(params), atol=1e-5)
    found, expected = (
        jax.grad(lambda params, of=of: jnp.sum(jnp.sin(of(params))))(params)
        for of in (ours, theirs)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found, expected)


@pytest.mark.parametrize("task", ["pretrain", "distill"])
def test_both_steps_have_the_same_loss_and_norms(task, mesh):
    args = arguments(f"--task={task}", "--dtype=float32", "--layer=scanned")
    job = ratio_job(args, mesh)
    params, batch = drawn_params(job.network), random_batches(mesh, 2, 32, 5)[0]
    frozen = {"teacher": teacher_params(job.teacher)} if job.teacher else None
    transformation = optimizer_of("adafactor", job.network)
    state = init_state(job.network, transformation, 0, params=jax.tree.map(jnp.copy, params))
    # The draws of mixup are not the same ones.
    if job.teacher:
        batch["image"] = jnp.stack([batch["image"][0]] * 2)
    _, expected = make_train_step(Learner(job.task, transformation), 0)(state, frozen, batch)

    teacher = theirs = None
    if job.teacher and frozen:
        teacher = ReferenceViT(job.teacher.config, True)
        theirs = reference_params(frozen["teacher"], job.teacher.config, True)
    optimizer = reference_optimizer("adafactor", RATE, DECAY)
    reference = Reference(ReferenceViT(job.network.config, True), teacher, optimizer, "sigmoid")
    copied = reference_params(params, job.network.config, True)
    start = {"params": copied, "opt": optimizer.init(copied), "step": jnp.int32(0)}
    _, found = jax.jit(reference.step())(start, theirs, reference_batch(batch, 5))
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, err_msg=name)
    assert found["update_norm"] > 0


def test_the_ratios_are_those_of_rounds_that_took_turns(tmp_path):
    file = tmp_path / "figures.json"
    command = ["--tasks=pretrain", "--dtypes=float32", "--layers=scanned", "--rounds=3"]
    done = run_python(
        "benchmarks/step_ratio.py",
        *[*TINY, *command, "--no_torch", f"--json={file}"],
        # Tests leave the C library as it is unless they say otherwise.
        env={**os.environ, "DISTILL_KEEP_MEMORY": "1", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())["rows"]
    programs = row["programs"]
    assert set(programs) == {"ours, kept", "reference, kept", "reference"}
    assert all(len(one["rounds"]) == 3 for one in programs.values())
    cpu = {name: [r["cpu"] for r in one["rounds"]] for name, one in programs.items()}
    pairs = zip(cpu["ours, kept"], cpu["reference"], strict=True)
    assert row["time_against_stock"] == sorted(ours / theirs for ours, theirs in pairs)[1]
    bytes_of = {name: one["temporary_bytes"] for name, one in programs.items()}
    assert row["temporaries"] == bytes_of["ours, kept"] / bytes_of["reference, kept"]
    assert "pretrain" in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tasks=finetune"], "expected some of pretrain,distill"),
        (["--json=/no/x"], "there is no folder /no"),
        (["--json=/"], "'/' is a directory; expected a file"),
        (["--heads=3"], "is not divisible by heads 3"),
    ],
)
def test_bad_arguments_exit_2_with_a_message(given, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        step_ratio.main([*TINY, "--tasks=pretrain", "--dtypes=float32", "--no_torch", *given])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
