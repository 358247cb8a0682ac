"""A step that does not fit is refused with what to type, and so is one that runs out."""

import contextlib
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import arguments, pretrain_config, run_command

from distill import machine
from distill.data import DataConfig, needed
from distill.data.batch_spec import Shaped
from distill.data.needed import host_bytes
from distill.errors import UserError
from distill.evaluate import Evaluator
from distill.json_files import read_json
from distill.parallel import distributed, replicated
from distill.tasks.classification import Classification
from distill.train import fit, memory
from distill.train.config import TrainConfig
from distill.train.memory import (
    Knobs,
    OutOfMemory,
    check_fits,
    check_held,
    explained,
    free_bytes,
)
from distill.train.run import open_mesh, plan
from distill.train.state import abstract_state
from distill.train.step import CompiledStep, Learner, compile_joint_step
from distill.train.workdir import Workdir
from pipelines import pretrain

MIB = 2**20


def knobs(batch=256, microbatches=1, devices=1, **remat):
    train = TrainConfig(batch_size=batch, microbatches=microbatches, total_steps=1)
    return Knobs(train, devices, remat or {"model.remat": "none"})


@pytest.mark.parametrize(
    ("run", "too_large", "microbatches", "batch"),
    [
        (knobs(), 1.1, 2, 128),
        (knobs(), 3.0, 4, 64),
        (knobs(batch=96), 2.5, 3, 32),
        (knobs(microbatches=4), 2.0, 8, 128),
        (knobs(devices=8), 2.0, 2, 128),
        # More than can be mended: one image at a time is the best there is.
        (knobs(batch=8), 1000.0, 8, 1),
    ],
)
def test_advice_is_the_least_change_that_fits(run, too_large, microbatches, batch):
    advice = run.advice(too_large=too_large)
    assert f"--config.train.microbatches={microbatches}," in advice
    # Computing activations twice saves no more than it can.
    assert ("--config.model.remat=full" in advice) == (too_large < 1000)
    assert advice.endswith(f"in a new --workdir a smaller batch, --config.train.batch_size={batch}")


def test_advice_leaves_out_what_is_done_already():
    assert "remat" not in knobs(**{"model.remat": "full"}).advice()
    assert knobs(batch=1, **{"model.remat": "full"}).advice() == (
        "Use a smaller model, or more devices"
    )
    # A loss that compares images with each other takes batches whole.
    assert "microbatches" not in dataclasses.replace(knobs(), in_parts=False).advice()
    # Of no use where teachers' outputs alone are too large.
    assert "microbatches" not in knobs().advice(prepared=True)


@pytest.mark.slow
def test_the_advice_of_a_whole_run_can_be_followed(tmp_path, monkeypatch):
    config = pretrain_config()
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)
    with pytest.raises(OutOfMemory, match=r"GiB too little\. Use --config\.train\.microbatches=\d"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    # The same workdir takes the run once it fits.
    monkeypatch.undo()
    in_parts = pretrain_config(train__microbatches=32, model__remat="full")
    assert pretrain.run(in_parts, Workdir(tmp_path), overview=False).summary["steps"] == 10


@pytest.mark.slow
def test_the_bytes_of_a_step_follow_its_batch_and_microbatches():
    def measured(batch, microbatches=1):
        config = pretrain_config(train__batch_size=batch)
        mesh = open_mesh(config)
        network = config.model.network().placed(mesh, config.mesh.table)
        planned = plan(config, network, config.data.open_splits(channels=1))
        task = Classification(network, config.loss)
        state = abstract_state(network, planned.optimizer)
        where = state.step.sharding
        images = jax.ShapeDtypeStruct((batch, 8, 8, 1), jnp.uint8, sharding=where)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=where)
        step = compile_joint_step(
            {"one": Learner(task, planned.optimizer)},
            0,
            {"one": state},
            None,
            {"image": images, "label": labels},
            microbatches=microbatches,
        )
        kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        assert step.argument_bytes == kept + batch * (64 + 4)
        return step.extra_bytes

    small, large, in_parts = measured(64), measured(512), measured(512, microbatches=8)
    # Activations are most of it: 17 tokens of width 16, of which a block keeps a few dozen.
    assert large > 512 * 17 * 16 * 4 * 10
    assert large > 5 * small
    assert in_parts < large / 3


class Accelerator:
    platform, device_kind = "gpu", "H0"

    def __init__(self, **stats):
        self.memory_stats = lambda: stats or None


def test_an_accelerator_says_what_it_has():
    assert free_bytes(Accelerator(bytes_limit=100, bytes_in_use=30)) == 70
    assert free_bytes(Accelerator()) is None


def test_a_container_may_have_less_than_the_machine(tmp_path, monkeypatch):
    files = {"memory.max": "max\n", "memory.current": "70\n", "memory.stat": "anon 1\nfile_ 20\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_available_of_system", lambda: 1000)
    monkeypatch.setattr(machine, "_GROUPS", ((tmp_path, "memory.max", "memory.current", "file_"),))
    device = jax.devices()[0]
    assert free_bytes(device) == 1000
    (tmp_path / "memory.max").write_text("100\n")
    assert free_bytes(device) == 100 - 70 + 20


def test_the_machine_has_some_memory():
    assert 2**20 < free_bytes(jax.devices()[0]) < 2**50


@pytest.mark.parametrize(("free", "fits"), [(100, True), (99, False), (None, True)])
def test_a_step_fits_to_the_last_megabyte(free, fits, monkeypatch):
    free = None if free is None else free * MIB
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    mesh, step = open_mesh(pretrain_config()), CompiledStep(None, MIB, 100 * MIB, 0)
    if fits:
        check_fits(step, mesh, knobs())
        return
    with pytest.raises(OutOfMemory, match=r"takes 0\.1 GiB"):
        check_fits(step, mesh, knobs())


def test_what_does_not_fit_another_process_is_refused_by_all(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**40)
    monkeypatch.setattr(distributed, "largest", lambda value: max(value, 2048))
    mesh, step = open_mesh(pretrain_config()), CompiledStep(None, 0, 3 * 2**30, 0)
    with pytest.raises(OutOfMemory, match=r"3\.0 GiB, and .* has 1\.0 GiB free, 2\.0 GiB too"):
        check_fits(step, mesh, knobs())


def run_out():
    raise jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n  at x"
    )


def test_memory_that_runs_out_is_recognised():
    words = r"\(RESOURCE_EXHAUSTED: [^\n]*\)\. Do this"
    with pytest.raises(OutOfMemory, match=words) as caught, explained(lambda: "Do this"):
        jax.jit(lambda: jnp.zeros((2**24, 2**30), jnp.uint8))().block_until_ready()
    assert caught.value.exit_code == 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explained(lambda: ""):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_step_that_runs_out_leaves_what_was_saved(tmp_path, monkeypatch):
    make = fit.compile_joint_step

    def compile(*args, **options):
        compiled, count = make(*args, **options), 0

        def counted(*args):
            nonlocal count
            count += 1
            return run_out() if count > 6 else compiled(*args)

        return CompiledStep(counted, 0, 0, 0)

    monkeypatch.setattr(fit, "compile_joint_step", compile)
    with pytest.raises(OutOfMemory, match=r"memory ran out .*--config\.train\.microbatches=2"):
        pretrain.run(pretrain_config(), Workdir(tmp_path), overview=False)
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()] == ["5"]
    assert pretrain.run(pretrain_config(), Workdir(tmp_path), overview=False).summary["steps"] == 10


@pytest.mark.parametrize("command", ["pretrain", "evaluate", "store_targets"])
def test_every_command_ends_with_these_words(command, tmp_path, teacher_workdir, monkeypatch):
    monkeypatch.setattr(Evaluator, "__call__", lambda *args: run_out())
    flags = {
        "pretrain": arguments("pretrain/digits.py", tmp_path),
        "evaluate": [f"--workdir={teacher_workdir}"],
        "store_targets": arguments("distill/digits.py", tmp_path, teacher__workdir=teacher_workdir),
    }
    done = run_command(command, *flags[command])
    assert done.returncode == 1, done.stderr
    error = done.stderr[done.stderr.index("error: ") :]
    assert error.startswith("error: memory ran out (RESOURCE_EXHAUSTED: ")
    assert "batch_size" in error and "Traceback" not in done.stderr
    if command == "pretrain":
        assert read_json(tmp_path / "config.json")["train"]["batch_size"] == 32


class Host:
    """Of a data set, what its loading depends on."""

    is_remote = False

    def __init__(self, images):
        self._images = images

    def __len__(self):
        return self._images


def test_what_loading_takes_is_counted_by_the_key_that_decides_it():
    spec = {"image": Shaped((10, 10, 3), np.dtype(np.uint8)), "label": Shaped((), np.dtype("i4"))}
    config = DataConfig(threads=4, workers=0, cache="ram", cache_gib=2)
    found = host_bytes(Host(100), config, spec, 64)
    assert found == {
        # Two batches that are ready, one that is joined, and its parts.
        "config.train.batch_size": 4 * 64 * 304,
        # Of each thread a chunk of 32 that it decodes and two that were read ahead.
        "config.data.threads": 3 * 4 * 32 * 304,
        "config.data.workers": 0,
        "config.data.cache_gib": 2 * 2**30,
    }
    several = host_bytes(Host(100), dataclasses.replace(config, workers=8, cache=None), spec, 64)
    assert several["config.data.threads"] == 8 * found["config.data.threads"]
    assert (
        several["config.data.workers"] > 8 * 64 * 2**20 and "config.data.cache_gib" not in several
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            dict(data__workers=512),
            r"about 48\.\d GiB of memory, and this machine has 8\.0 GiB free: 48\.0 GiB for worker "
            r"processes\. Use a smaller --config\.data\.workers$",
        ),
        (
            dict(model__depth=1024, model__mlp_dim=2**18),
            r"\d GiB for parameters and optimizer\. Use a smaller model$",
        ),
    ],
)
def test_what_would_not_fit_is_refused_before_anything_is_allocated(
    overrides, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(fit, "begin", pytest.fail)
    monkeypatch.setattr(needed, "free_memory", lambda: 2**33)
    with pytest.raises(UserError, match=message) as error:
        pretrain.run(pretrain_config(**overrides), Workdir(tmp_path), overview=False)
    assert error.value.exit_code == 2 and not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(("free", "fits"), [(2**20, True), (2**20 - 1, False)])
def test_what_an_accelerator_holds_is_compared_with_it_alone(free, fits, monkeypatch):
    mesh = open_mesh(pretrain_config())
    held = jax.ShapeDtypeStruct((2**18,), np.float32, sharding=replicated(mesh))
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    device = types.SimpleNamespace(platform="gpu", device_kind="H0")
    with pytest.raises(UserError, match=r"adafactor") if not fits else contextlib.nullcontext():
        check_held([held], types.SimpleNamespace(local_devices=[device]), {})
