"""The benchmark as a user runs it, on models so small that only its arithmetic matters."""

import importlib.util
import json
import os
import re

import jax
import jax.numpy as jnp
import pytest
from support import REPOSITORY, run_python

from benchmarks.training_step import job_of
from distill.nn import count_flops
from distill.parallel import MeshConfig, make_mesh
from students import vit

pytestmark = pytest.mark.benchmark

SCRIPT = "benchmarks/step_time.py"
SIZES = {"width": 16, "depth": 2, "mlp_dim": 32, "heads": 2}
COMMON = "--batch_size=8 --image_size=32 --num_classes=10 --warmup=1 --steps=4".split()
PEAK = 1e9
XLA_FLAGS = os.environ["XLA_FLAGS"]


def sizes(prefix="", **changes):
    return [f"--{prefix}{flag}={value}" for flag, value in (SIZES | changes).items()]


def benchmark(tmp_path, *flags, xla_flags=XLA_FLAGS):
    """What the benchmark prints and writes."""
    file = tmp_path / "figures.json"
    command = [*flags, *COMMON, f"--peak_tflops={PEAK / 1e12}", f"--json={file}"]
    done = run_python(SCRIPT, *command, env=os.environ | {"XLA_FLAGS": xla_flags})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, json.loads(file.read_text())


def forward_flops(**changes):
    """One image's, counted without the benchmark."""
    network = vit.build(vit.configure("B/16", image_size=32, num_classes=10, **(SIZES | changes)))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return count_flops(network.apply, network.abstract_params, image).matrix


def check(figures, flops_per_image, devices=1):
    seconds = figures["step_seconds"]
    order = ("min", "lower_quartile", "median", "upper_quartile", "max")
    assert [seconds[name] for name in order] == sorted(seconds.values())
    assert seconds["min"] > 0
    assert seconds["max"] < 60
    assert figures["images_per_second"] == pytest.approx(8 / seconds["median"])
    flops = 8 * flops_per_image
    assert figures["flops_per_step"] == flops
    assert figures["mfu"] == pytest.approx(flops / (seconds["median"] * PEAK * devices))
    assert figures["device_count"] == devices
    assert figures["versions"]["jax"] == jax.__version__
    # At least the float32 parameters, at most what no tiny model takes.
    assert 4 * figures["parameters"] / devices < figures["peak_memory_bytes"] < 2**28
    assert 0 < figures["compile_seconds"] < 120


def test_pretraining_costs_three_forward_passes(tmp_path):
    printed, figures = benchmark(tmp_path, "pretrain", "--model=B/16", *sizes(), "--remat=full")
    check(figures, 3 * forward_flops())
    assert figures["teacher_parameters"] is None
    # Sigmoid cross-entropy of 10 classes at zero logits.
    assert figures["loss"] == pytest.approx(10 * 0.6931, rel=1e-2)
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in printed.splitlines())
    assert rows["step"].startswith("pretrain B/16")
    assert f"{figures['images_per_second']:,.1f}" in rows["images/s"]
    assert f"{figures['mfu']:.1%}" in rows["MFU"]
    assert rows["peak memory"].endswith("(compiler's plan for the step)")


def test_distillation_adds_the_teachers_forward_pass_on_every_device(tmp_path):
    xla_flags = f"{XLA_FLAGS} --xla_force_host_platform_device_count=2"
    teacher = ["--teacher=vit_g:g/16", *sizes("teacher_", depth=3)]
    student = ["--student=B/16", *sizes("student_"), "--optimizer=adam"]
    printed, figures = benchmark(tmp_path, "distill", *teacher, *student, xla_flags=xla_flags)
    check(figures, forward_flops(depth=3) + 3 * forward_flops(), devices=2)
    assert figures["teacher_parameters"] > figures["parameters"]
    # Without a difference between the two, nothing but zeros would flow backwards.
    assert figures["loss"] > 1e-3
    assert f"XLA_FLAGS       {xla_flags}" in printed


REFUSED = {
    "no mode": ([], "pretrain"),
    "an unknown shape": (["pretrain", "--model=Q/16", *COMMON], "unknown model 'Q/16'"),
    "an unknown family": (["pretrain", "--model=vit_h:H/14", *COMMON], "unknown model 'vit_h:H/14"),
    "a shape of another family": (["pretrain", "--model=vit:g/14", *COMMON], "'g/14'"),
    "a patch that does not divide": (["pretrain", "--model=B/14", *COMMON], "28×28 or 42×42"),
    "no batch size": (["pretrain", "--model=B/16"], "--batch_size"),
    "an abbreviated flag": (["pretrain", "--model=B/16", *COMMON, "--warm=3"], "--warm=3"),
    "no steps": (["pretrain", "--model=B/16", *COMMON, "--steps=0"], "at least 1, not '0'"),
    "no peak": (["pretrain", "--model=B/16", *COMMON, "--peak_tflops=nan"], "positive number"),
    "one model to distil": (["distill", "--student=B/16", *COMMON], "--teacher"),
    "a mesh that is too big": (["pretrain", "--model=B/16", *COMMON, "--fsdp=3"], "1 device(s)"),
    "a file nowhere": (["pretrain", "--model=B/16", *COMMON, "--json=/no/x"], "no folder /no"),
}


@pytest.fixture(scope="module")
def step_time():
    """The script, imported: many refusals cost one start of Python."""
    spec = importlib.util.spec_from_file_location("step_time", REPOSITORY / SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("what", REFUSED)
def test_bad_arguments_exit_2_with_a_message(what, step_time, capsys):
    flags, message = REFUSED[what]
    with pytest.raises(SystemExit) as stopped:
        step_time.main(flags)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert message in shown.splitlines()[-1], shown


def test_an_unknown_device_has_no_mfu(step_time):
    command = ["pretrain", "--model=B/16", *COMMON, *sizes()]
    args = step_time.parser_of().parse_args(command)
    measured = step_time.Measured(
        compile_seconds=1.0,
        step_seconds=step_time.np.asarray([1.0, 3.0, 2.0]),
        planned_memory_bytes=2**29,
        peak_memory_bytes=2**30,
        peak_memory_source="a guess",
        loss=0.5,
    )
    figures = step_time.figures(args, job_of(args, make_mesh(MeshConfig())), measured)
    assert figures["mfu"] is None
    assert figures["step_seconds"]["median"] == 2.0
    table = step_time.table(figures)
    assert "unknown device 'cpu'; give its peak with --peak_tflops" in table
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in table.splitlines())
    assert rows["peak memory"] == "1.000 GiB per device (a guess)"
    assert rows["planned memory"] == "0.500 GiB per device (compiler's plan for the step)"


def test_help_names_the_modes_and_the_models():
    done = run_python(SCRIPT, "pretrain", "--help")
    assert done.returncode == 0
    for text in ("--peak_tflops", "--profile", "22B", "So400m", "whatever devices are there"):
        assert text in done.stdout


def test_it_imports_with_jax_flax_optax_and_numpy_alone():
    absent = (
        "absl grain clu orbax ml_collections tensorflow tensorflow_datasets tensorboard sklearn "
        "PIL matplotlib"
    ).split()
    code = (
        # Flax itself imports Orbax and absl where they are; what comes after it may not.
        "import jax, flax.nnx, optax, numpy, runpy, sys\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        f"sys.argv = ['step_time', '--help']; runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
