"""The commands as a user types them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support import REPOSITORY, arguments, run_python

DISTILL = shutil.which("distill", path=str(Path(__import__("sys").executable).parent))


def flags(config, workdir, **overrides):
    return arguments(config, workdir, **overrides)


def test_script_and_module_do_the_same(tmp_path):
    runs = {
        tmp_path / "script": ["pipelines/pretrain.py"],
        tmp_path / "module": ["-m", "pipelines.pretrain"],
    }
    for workdir, command in runs.items():
        done = run_python(*command, *flags("pretrain/digits.py", workdir))
        assert done.returncode == 0, done.stderr
        assert "Parameter" in done.stderr or "Name" in done.stderr
        assert "ETA" in done.stderr
    one, other = (json.loads((path / "summary.json").read_text()) for path in runs)
    assert one["test/cross_entropy"] == other["test/cross_entropy"]


def test_the_console_command_runs_on_a_folder_of_jpegs(image_folder, tmp_path):
    assert DISTILL, "the console command is not installed"
    command = flags(
        "pretrain/digits.py",
        tmp_path / "run",
        data__source=f"folder:{image_folder}",
        model__channels=3,
        model__num_classes=3,
        train__batch_size=8,
    )
    done = subprocess.run(
        [DISTILL, "pretrain", *command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 10


BAD = {
    "unknown and mistyped keys": (
        dict(optimizer__learning_rat=1, train__batch_size="many", model__heds=3),
        [
            "3 problems",
            "config.optimizer.learning_rat is unknown; did you mean config.optimizer.learning_rate",
            "config.train.batch_size is 'many'; expected int",
            "config.model.heds is unknown; did you mean config.model.heads",
        ],
    ),
    "an image size the patch does not divide": (
        dict(model__image_size=9),
        ["image size 9×9 is not divisible by patch size 2", "8×8 or 10×10"],
    ),
    "a missing folder": (dict(data__source="folder:/nowhere"), ["/nowhere does not exist"]),
    "a batch larger than the data": (dict(train__batch_size=1e4), ["1197 images"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_exits_2_without_traceback(what, tmp_path):
    overrides, messages = BAD[what]
    done = run_python(
        "-m", "pipelines.pretrain", *flags("pretrain/digits.py", tmp_path, **overrides)
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "compiled" not in done.stderr
    for message in messages:
        assert message in done.stderr


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    import os

    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = flags("pretrain/digits.py", tmp_path, train__batch_size=36)
    done = run_python("-m", "pipelines.pretrain", *command, env=env)
    assert done.returncode == 2
    assert "batch_size is 36, which 8 devices (data × fsdp) cannot share evenly; use 32 or 40" in (
        done.stderr
    )


def test_corrupt_images_are_named_and_stop_the_run_past_the_share(image_folder, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(image_folder, root)
    broken = root / "train" / "grey" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    shared = dict(
        data__source=f"folder:{root}",
        model__channels=3,
        model__num_classes=3,
        train__batch_size=8,
        train__total_steps=6,
    )
    tolerant = flags("pretrain/digits.py", tmp_path / "a", data__max_corrupt_share=0.2, **shared)
    done = run_python("-m", "pipelines.pretrain", *tolerant)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(str(broken)) == 1
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["skipped_images"] >= 2

    strict = flags("pretrain/digits.py", tmp_path / "b", data__max_corrupt_share=0, **shared)
    done = run_python("-m", "pipelines.pretrain", *strict)
    assert done.returncode == 1
    assert "max_corrupt_share" in done.stderr
    assert str(broken) in done.stderr
    assert "Traceback" not in done.stderr


def test_unwritable_workdir_is_refused():
    done = run_python("-m", "pipelines.pretrain", *flags("pretrain/digits.py", Path("/proc/run")))
    assert done.returncode == 2
    assert "cannot write to workdir /proc/run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["pretrain", "distill_student", "evaluate", "export", "demo"])
def test_help_helps(command):
    done = subprocess.run([DISTILL, command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--workdir" in done.stdout
    if command in ("pretrain", "distill_student"):
        assert "optimizer.learning_rate" in done.stdout


def test_unknown_commands_exit_2():
    done = subprocess.run([DISTILL, "destil"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown command 'destil'" in done.stderr


def test_the_library_loads_nothing_heavy():
    heavy = ("tensorflow", "tensorflow_datasets", "tensorboard", "grain", "orbax", "sklearn", "PIL")
    core = "distill, teachers.vit_22b, teachers.vit_g, students.vit, distill.nn, distill.optim"
    code = (
        f"import {core}, distill.parallel, distill.matching.distillation, sys;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = run_python("-c", code)
    # Flax itself imports Orbax.
    show = f"print([m for m in {heavy} if m in sys.modules])"
    flax_brings = run_python("-c", f"import flax.nnx, sys; {show}")
    assert done.stdout == flax_brings.stdout, done.stdout + done.stderr


def test_the_core_imports_with_jax_flax_optax_and_numpy_alone():
    absent = (
        "absl grain clu orbax ml_collections tensorflow tensorflow_datasets tensorboard sklearn "
        "PIL matplotlib"
    ).split()
    code = (
        "import jax, flax.nnx, optax, numpy, sys\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        "import distill.nn, distill.optim, distill.parallel, distill.matching.distillation\n"
        "import teachers.vit_22b, teachers.vit_g, students.vit\n"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr


def test_repository_root_is_where_the_readme_says():
    assert (REPOSITORY / "README.md").exists()
