"""The commands as a user types them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jax.sharding import AbstractMesh
from support import REPOSITORY, TINY, arguments, run_command, run_python

from distill.json_files import read_json

DISTILL = shutil.which("distill", path=str(Path(sys.executable).parent))
TINY_FLAGS = [f"--config.{key}={value}" for key, value in TINY.items()]


def readme(language: str) -> list[str]:
    """The README's code blocks in a language."""
    text = (REPOSITORY / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


# The README's folder of flowers is a small one here, and its run short.
FLOWERS = dict(
    train__total_steps="none",
    train__total_epochs=2,
    train__batch_size=8,
    schedule__warmup_percent="none",
    schedule__cooldown_percent="none",
    model__image_size=32,
    data__workers=0,
)


@pytest.mark.slow
def test_the_readmes_commands_do_the_whole_job(tmp_path, image_folder, monkeypatch):
    """The first in a process of its own, as a script."""
    commands = [
        line.split()[1:]
        for block in readme("sh")
        for line in block.splitlines()
        if line.startswith("python ")
    ]
    names = ["pretrain", "distill_student", "evaluate", "export", "pretrain"]
    assert [Path(command[0]).stem for command in commands] == names
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "pipelines").symlink_to(REPOSITORY / "pipelines")
    monkeypatch.chdir(tmp_path)
    for number, command in enumerate(commands):
        flags = [argument.replace("/data/flowers", str(image_folder)) for argument in command]
        if any(argument.startswith("--config=") for argument in command):
            flags += TINY_FLAGS
        if flags != [*command, *TINY_FLAGS] and flags != command:
            flags += [f"--config.{k.replace('__', '.')}={v}" for k, v in FLOWERS.items()]
        if number == 0:
            done = run_python(*flags, cwd=tmp_path)
            kept = (tmp_path / "runs" / "teacher" / "train.log").read_text(encoding="utf-8")
            assert "encoder/blocks/mlp_in/kernel" in kept
            assert "ETA" in done.stderr
        else:
            done = run_command(names[number], *flags[1:])
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "runs" / "student" / "export" / "1" / "saved_model.pb").exists()
    summary = read_json(tmp_path / "runs" / "flowers" / "summary.json")
    # 24 images × 2 epochs / 8
    assert summary["steps"] == 6
    assert summary["skipped_images"] == 0


def test_the_readmes_python_runs():
    library = next(block for block in readme("python") if "vit_22b" in block)
    done = run_python("-c", library)
    assert done.returncode == 0, done.stderr
    parameters, flops = done.stdout.split("\n")[:2]
    # ViT-22B without classifier; 2 operations per multiply-add.
    assert 22.2e9 < int(parameters.replace(",", "")) < 22.3e9
    assert 11_200 < int(flops.split()[0].replace(",", "")) < 11_300


BAD = {
    "unknown and mistyped keys": (
        dict(optimizer__learning_rat=1, train__batch_size="many", model__heds=3),
        [
            "3 problems",
            "config.optimizer.learning_rat is unknown; did you mean config.optimizer.learning_rate",
            "config.train.batch_size is 'many'; expected whole number",
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
def test_bad_input_exits_2_and_claims_no_workdir(what, tmp_path):
    overrides, messages = BAD[what]
    done = run_command("pretrain", *arguments("pretrain/digits.py", tmp_path, **overrides))
    assert done.returncode == 2, done.stderr
    assert "compiled" not in done.stderr
    for message in messages:
        assert message in done.stderr
    assert not (tmp_path / "config.json").exists()


def test_a_process_that_is_refused_prints_no_traceback():
    command = arguments("pretrain/digits.py", Path("/proc/run"))
    done = run_python("-m", "pipelines.pretrain", *command)
    assert done.returncode == 2
    assert "cannot write to workdir /proc/run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path, monkeypatch):
    eight = AbstractMesh((4, 2, 1), ("data", "fsdp", "tensor"))
    monkeypatch.setattr("distill.train.run.make_mesh", lambda config: eight)
    command = arguments("pretrain/digits.py", tmp_path, train__batch_size=36)
    done = run_command("pretrain", *command)
    assert done.returncode == 2
    assert "batch_size is 36, which 8 devices (data × fsdp) cannot share evenly; use 32 or 40" in (
        done.stderr
    )


def test_corrupt_images_are_named_and_stop_the_run_past_the_share(image_folder, tmp_path, caplog):
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

    def pretrain(workdir, share):
        flags = arguments(
            "pretrain/digits.py", tmp_path / workdir, data__max_corrupt_share=share, **shared
        )
        return run_command("pretrain", *flags)

    done = pretrain("tolerant", 0.2)
    assert done.returncode == 0, done.stderr
    assert caplog.text.count(str(broken)) == 1
    summary = read_json(tmp_path / "tolerant" / "summary.json")
    assert summary["steps"] == 6
    assert summary["skipped_images"] >= 2

    done = pretrain("strict", 0)
    assert done.returncode == 1
    assert "max_corrupt_share" in done.stderr
    assert str(broken) in done.stderr


HELP = {
    "pretrain": "--config.optimizer.KEY=VALUE",
    "shapefinder": "--workdir",
    "demo": "--workdir",
    "evaluate": "--best",
    "export": "--best",
}


@pytest.mark.parametrize("command", HELP)
def test_help_helps(command):
    done = run_command(command, "--help")
    assert done.returncode == 0
    assert "--workdir" in done.stdout
    assert HELP[command] in done.stdout


def test_help_of_auto_is_a_page_that_names_where_the_keys_are():
    done = run_command("auto", "--help")
    assert done.returncode == 0 and done.stdout.count("\n") < 60
    assert "distill distill_student --help" in done.stdout and "--budget" in done.stdout


def test_help_of_a_script_helps():
    """In a process of its own; the scripts differ in nothing that starts them."""
    done = run_python("pipelines/distill_student.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout
    assert "--config.matching.losses.KEY=VALUE" in done.stdout


def test_unknown_commands_exit_2():
    assert DISTILL, "the console command is not installed"
    done = subprocess.run([DISTILL, "destil"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown command 'destil'" in done.stderr


def test_the_core_imports_with_jax_flax_optax_and_numpy_alone():
    """And asks for nothing else, not even to do without it."""
    absent = (
        "absl grain clu orbax ml_collections tensorflow tensorflow_datasets tensorboard sklearn "
        "PIL matplotlib"
    ).split()
    # Flax itself imports Orbax.
    code = f"""
import jax, flax.nnx, optax, numpy, sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            print(name)
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
for name in [name for name in sys.modules if name.partition(".")[0] in {absent}]:
    del sys.modules[name]
import distill, distill.nn, distill.optim, distill.parallel
import distill.tasks.matching.function_matching
import teachers.vit_22b, teachers.vit_g, students.vit
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
