"""The command for a GPU: what it makes of its rows, and one row as it runs."""

import json
import os
import signal

import jax
import pytest
from support import REPOSITORY, run_python

from benchmarks import accelerator, accelerator_rows, attention_kernel, repeated_step, step_time
from benchmarks.accelerator_rows import ROWS, Row
from benchmarks.training_step import job_of
from distill.parallel import MeshConfig, make_mesh

SCRIPT = "benchmarks/accelerator.py"
WRITE = (
    "import json, sys\n"
    "with open(sys.argv[-1].partition('=')[2], 'w') as file: json.dump({}, file)\n"
)
# What commands do, and the outcome and reason of their rows.
COMMANDS = {
    "machine": (WRITE.format("dict(platform='gpu', n=0)"), "measured", None),
    "good": (WRITE.format("dict(n=1, flags=sys.argv[1:-1])"), "measured", None),
    "differing": (WRITE.format("dict(n=2, holds=False)") + "sys.exit(1)", "differs", None),
    "full": (
        "import sys\n"
        "sys.exit('''Traceback:\\njaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: 9 GiB\\n'''\n"
        "'''\\nFor simplicity, JAX has removed its frames.''')",
        "failed",
        "status 1: jaxlib.XlaRuntimeError: RESOURCE_EXHAUSTED: 9 GiB",
    ),
    "aborting": ("import os; os.abort()", "failed", f"status {-signal.SIGABRT}: it said nothing"),
    "endless": ("import time; time.sleep(600)", "out of time", "stopped after "),
    "waiting": (WRITE.format("{}"), "skipped", "s are left, and it needs about 1000"),
    "last": (WRITE.format("dict(n=3)"), "measured", None),
}
LIMITS = {"endless": dict(most_seconds=0.5), "waiting": dict(least_seconds=1000.0)}


def fake_rows(directory):
    """Rows of commands that need no JAX."""
    rows = []
    for name, (code, _, _) in COMMANDS.items():
        (directory / f"{name}.py").write_text(code)
        limits = dict(least_seconds=0.0, most_seconds=60.0) | LIMITS.get(name, {})
        rows.append(Row(name=name, script=f"{name}.py", tell=lambda f: f"n = {f['n']}", **limits))
    return tuple(rows)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "DIRECTORY", tmp_path)
    monkeypatch.setattr(accelerator, "ROWS", fake_rows(tmp_path))
    return tmp_path


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_whatever_ends_a_row_is_recorded_and_the_next_one_runs(fake, capsys):
    file = fake / "rows.jsonl"
    with pytest.raises(SystemExit) as stopped:
        accelerator.main([f"--json={file}", "--seconds=100"])
    assert stopped.value.code == "does not hold: differing"
    found = lines(file)
    assert [line["row"] for line in found] == list(COMMANDS)
    printed = capsys.readouterr().out.splitlines()
    for line, told, (_, outcome, reason) in zip(found, printed, COMMANDS.values(), strict=True):
        assert line["outcome"] == outcome, line
        assert told.startswith(line["row"])
        if reason:
            assert reason in line["reason"] and f"{outcome}: " in told and reason in told
        else:
            assert line["reason"] is None and told.endswith(f"n = {line['figures']['n']}")
    assert ("DIFFERS: n = 2" in printed[2]) and "DIFFERS" not in printed[1]
    assert "JAX has removed" in found[3]["said"]


def test_lines_are_appended_and_rows_chosen(fake):
    file = fake / "rows.jsonl"
    file.write_text('{"row": "of a run before"}\n')
    accelerator.main([f"--json={file}", "--only=ast"])
    assert [line["row"] for line in lines(file)] == ["of a run before", "machine", "last"]


def test_a_row_is_on_disk_before_the_next_one_begins(fake, monkeypatch):
    file, seen = fake / "rows.jsonl", []
    run = accelerator.run_row

    def watched(row, seconds):
        seen.append(len(lines(file)) if file.exists() else 0)
        return run(row, seconds)

    monkeypatch.setattr(accelerator, "run_row", watched)
    monkeypatch.setattr(accelerator, "ROWS", accelerator.ROWS[:2])
    accelerator.main([f"--json={file}"])
    assert seen == [0, 1]


def test_without_a_gpu_nothing_is_measured(fake, capsys):
    (fake / "machine.py").write_text(WRITE.format("dict(platform='cpu', n=0)"))
    with pytest.raises(SystemExit) as stopped:
        accelerator.main([f"--json={fake / 'rows.jsonl'}"])
    assert stopped.value.code == 2
    assert "platform 'cpu', expected a GPU" in capsys.readouterr().err
    assert [line["row"] for line in lines(fake / "rows.jsonl")] == ["machine"]


def test_without_jax_it_is_said(fake, capsys):
    (fake / "machine.py").write_text("import no_such_module")
    with pytest.raises(SystemExit) as stopped:
        accelerator.main([f"--json={fake / 'rows.jsonl'}", "--tiny"])
    assert stopped.value.code == 2
    assert "No module named 'no_such_module'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seconds=0"], "positive number"),
        (["--json=/no/x"], "there is no folder /no"),
        (["--json=gs://b/x"], "not on this machine"),
        (["--sec=3"], "--sec=3"),
        (["--only=B/61"], "--only='B/61' is in no row's name; there are machine; "),
    ],
)
def test_bad_arguments_exit_2_with_a_message(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        accelerator.main(flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_users_environment_comes_first(monkeypatch):
    row = Row(name="", script="", tell=str, environment=(("A", "row's"),), xla_flags=("--xla_b=1",))
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.delenv("A", raising=False)
    found = accelerator.environment_of(row)
    assert found["XLA_FLAGS"] == "--xla_a=1 --xla_b=1"
    assert found["A"] == "row's"
    assert found["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.95"
    monkeypatch.setenv("A", "user's")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    found = accelerator.environment_of(row)
    assert (found["A"], found["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == ("user's", "0.5")


PARSERS = {
    "attention_kernel.py": attention_kernel.parser_of,
    "repeated_step.py": repeated_step.parser_of,
    "step_time.py": step_time.parser_of,
}


@pytest.mark.parametrize("shrunk", [False, True], ids=["as on a GPU", "tiny"])
def test_every_row_is_a_command_that_its_script_takes(shrunk):
    mesh = make_mesh(MeshConfig())
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        row = row.shrunk() if shrunk else row
        assert (REPOSITORY / "benchmarks" / row.script).is_file()
        if row.script not in PARSERS:
            continue
        args = PARSERS[row.script]().parse_args(row.flags)
        if "batch_size" in args:
            # A model that contradicts itself is an error.
            width = job_of(args, mesh).network.config.width
            assert (width == 16) == shrunk and (args.batch_size == 4) == shrunk


def test_a_row_says_how_to_run_it_by_hand():
    row = Row(
        name="",
        script="step_time.py",
        flags=("--a=1",),
        tell=str,
        environment=(("A", "1"),),
        xla_flags=("--xla_a=1", "--xla_b=1"),
    )
    expected = "A=1 XLA_FLAGS='--xla_a=1 --xla_b=1' python benchmarks/step_time.py --a=1"
    assert row.command == expected


def test_a_step_is_told_without_an_mfu_where_the_peak_is_unknown():
    figures = {
        "mfu": 0.4,
        "step_seconds": {"median": 0.25},
        "images_per_second": 1024.0,
        "peak_memory_bytes": 3 * 2**30,
        "planned_memory_bytes": 2**30,
        "compile_seconds": 30.0,
    }
    expected = "250.0 ms, 1,024 images/s, {}, memory 3.00 GiB, planned 1.00, compiled in 30 s"
    tell = accelerator_rows._tell_step
    assert tell(figures) == expected.format("MFU 40.0%")
    assert tell(figures | {"mfu": None}) == expected.format("MFU unknown for this device")


@pytest.mark.benchmark
def test_tiny_rows_run_on_a_cpu(tmp_path):
    file = tmp_path / "rows.jsonl"
    name = "pretrain B/16, batch 256, remat none"
    done = run_python(SCRIPT, "--tiny", f"--only={name}", f"--json={file}")
    assert done.returncode == 0, done.stderr
    machine, row = lines(file)
    assert machine["figures"]["versions"]["jax"] == jax.__version__
    assert (row["row"], row["outcome"]) == (name, "measured")
    figures = row["figures"]
    assert figures["batch_size"] == 4
    assert figures["images_per_second"] == 4 / figures["step_seconds"]["median"]
    assert figures["mfu"] is None
    # The compiler's plan holds the float32 parameters at least.
    assert figures["planned_memory_bytes"] > 4 * figures["parameters"]
    assert "MFU unknown for this device" in done.stdout


@pytest.mark.parametrize(
    "scripts, absent",
    [
        (["accelerator"], "jax flax optax numpy torch timm"),
        (["attention_kernel", "machine", "repeated_step"], "torch timm"),
    ],
)
def test_it_imports_with_jax_flax_optax_and_numpy_alone(scripts, absent):
    others = (
        "absl grain clu orbax ml_collections tensorflow tensorflow_datasets tensorboard sklearn "
        "PIL matplotlib safetensors"
    )
    # Flax itself imports Orbax and absl where they are; what comes after it may not.
    first = "" if "jax" in absent else "import jax, flax.nnx, optax, numpy\n"
    code = f"""
{first}import runpy, sys
for name in {f"{others} {absent}".split()}: sys.modules[name] = None
for script in {scripts}:
    sys.argv = [script, '--help']
    try: runpy.run_path(f'benchmarks/{{script}}.py', run_name='__main__')
    except SystemExit as end: assert not end.code, end.code
    print('done:', script)
"""
    done = run_python("-c", code, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr
    assert all(f"done: {script}" in done.stdout for script in scripts)
