import dataclasses
import os
import signal
import subprocess
import sys

import pytest
from absl import flags
from support import REPOSITORY, run_python

from distill.command.flags import parse, split_overrides
from distill.command.launch import launch, launch_training
from distill.errors import RunFailed, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    rate: float = 0.5
    steps: int = 10

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be positive, not {self.steps}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    name: str
    size: int | None = None
    section: Section = Section()


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("def get_config(name='file'):\n    return dict(name=name, size=1)\n")
    return path


@pytest.fixture
def start(config_file, tmp_path, capsys):
    """Launches a pipeline in this process; returns exit code, configs run, stdout and stderr."""

    def start(*arguments, run=None, flags=True):
        runs = []

        def keep(config, workdir):
            runs.append((config, workdir))
            if run is not None:
                run(config, workdir)

        own = [f"--config={config_file}", f"--workdir={tmp_path / 'run'}"] if flags else []
        with pytest.raises(SystemExit) as caught:
            launch_training("Trains things.\n\nAt length.", Config, keep, [*own, *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return caught.value.code, runs, out, err

    return start


def test_sigterm_ends_a_command_in_order(start, monkeypatch):
    # What ends a process at once is for one that is not the tests'.
    monkeypatch.setattr("distill.command.launch._end_interrupted", sys.exit)
    closed = []

    def run(config, workdir):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            closed.append(config)

    before = signal.getsignal(signal.SIGTERM)
    code, runs, _, err = start("--config.name=now", run=run)
    assert code == 128 + signal.SIGTERM
    assert err.endswith("stopped by SIGTERM\n")
    assert len(closed) == len(runs) == 1
    assert signal.getsignal(signal.SIGTERM) == before


INTERRUPTED = """
import os, signal, threading
import jax, jax.numpy as jnp
from absl import flags
from distill.command.launch import launch

def body(arguments):
    def long(x):
        for n in range(400):
            x = jnp.sin(x @ x) + n
        return x

    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while True:
        jax.jit(lambda x: long(x)).lower(jnp.ones((8, 8))).compile()

launch("", flags.FlagValues(), body, [])
"""


def test_sigterm_while_jax_compiles_is_no_crash():
    done = run_python("-c", INTERRUPTED)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "stopped by SIGTERM\n")


WHILE_DELETING = """
import os, signal, sys, time, weakref
from absl import flags
from distill.command.launch import launch

class Node: pass

def deleted(_):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(0.01)

def body(arguments):
    node = Node()
    reference = weakref.ref(node, deleted)
    del node
    time.sleep(100)

launch("", flags.FlagValues(), body, [])
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_an_object_is_deleted_is_not_dropped(name):
    done = run_python("-c", WHILE_DELETING, name, timeout=60)
    assert done.returncode == 128 + getattr(signal, name)
    assert "Exception ignored" not in done.stderr


def refused(result):
    """The message of a launch that ran nothing."""
    code, runs, out, err = result
    assert code == 2 and runs == [] and out == ""
    assert err.startswith("error: ")
    return err


@pytest.mark.parametrize(
    "arguments, overrides, rest",
    [
        ([], {}, []),
        (["--config.a=1"], {"a": "1"}, []),
        (["--config.a", "1"], {"a": "1"}, []),
        (["--config.a.b=1", "--config.c", "2"], {"a.b": "1", "c": "2"}, []),
        (["--config.a=x=y"], {"a": "x=y"}, []),
        (["--config.a="], {"a": ""}, []),
        (["--config.a", "-1"], {"a": "-1"}, []),
        (["--config.a=1", "--config.a=2"], {"a": "2"}, []),
        (["--config=f.py", "--config.a=1", "--workdir", "w"], {"a": "1"},
         ["--config=f.py", "--workdir", "w"]),
        (["--config", "f.py", "--config.a", "1", "w"], {"a": "1"}, ["--config", "f.py", "w"]),
        (["--config.w=(('a', 1),)"], {"w": "(('a', 1),)"}, []),
    ],
)  # fmt: skip
def test_overrides_are_taken_out_of_the_arguments(arguments, overrides, rest):
    assert split_overrides(arguments) == (overrides, rest)


def test_override_without_a_value_is_refused():
    with pytest.raises(UserError, match=r"--config\.a\.b needs a value: --config\.a\.b=VALUE"):
        split_overrides(["--workdir=w", "--config.a.b"])


def test_flag_is_not_taken_for_an_overrides_value():
    with pytest.raises(UserError, match=r"--config\.a needs a value"):
        split_overrides(["--config.a", "--workdir=w"])


def test_pipeline_runs_with_config_overrides_and_workdir(start, tmp_path):
    code, runs, _, err = start("--config.section.steps=3", "--config.size", "none")
    assert code == 0 and err == ""
    ((config, workdir),) = runs
    assert config == Config(name="file", size=None, section=Section(steps=3))
    assert workdir.path == tmp_path / "run" and workdir.path.is_dir()


def test_flags_may_be_separate_words_in_any_order(start, config_file, tmp_path):
    arguments = ["--config.size=7", "--workdir", str(tmp_path / "w"), "--config", str(config_file)]
    code, ((config, workdir),), *_ = start(*arguments, flags=False)
    assert code == 0 and config.size == 7 and workdir.path == tmp_path / "w"


def test_config_argument_reaches_the_file(start, config_file, tmp_path):
    arguments = [f"--config={config_file}:given", f"--workdir={tmp_path}"]
    _, ((config, _),), *_ = start(*arguments, flags=False)
    assert config.name == "given"


@pytest.mark.parametrize("flag", ["--wrokdir=x", "--nonsense", "-x", "--conf.size=1"])
def test_unknown_flag_is_refused(start, flag):
    message = refused(start(flag))
    assert flag.lstrip("-").partition("=")[0] in message and "--help" in message


def test_nearest_flag_is_suggested(start):
    assert "workdir" in refused(start("--wrokdir=x"))


def test_process_flags_that_do_not_fit_are_refused_before_the_config_is_read(start, tmp_path):
    flags = ["--config=nowhere.py", f"--workdir={tmp_path / 'run'}", "--processes=2"]
    assert "--process=I belong together" in refused(start(*flags, flags=False))
    assert not (tmp_path / "run").exists()


def test_stray_argument_is_refused(start):
    assert "unexpected argument 'imagenet'" in refused(start("imagenet"))


@pytest.mark.parametrize("missing", ["config", "workdir"])
def test_missing_flag_is_named(start, config_file, tmp_path, missing):
    given = {"config": config_file, "workdir": tmp_path / "run"}
    arguments = [f"--{name}={value}" for name, value in given.items() if name != missing]
    assert f"--{missing}" in refused(start(*arguments, flags=False))


@pytest.mark.parametrize("flag", ["config", "workdir"])
def test_flag_with_an_empty_value_is_refused(start, flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(start(f"--{flag}="))


def test_missing_config_file_is_named(start, tmp_path):
    arguments = ["--config=nowhere/none.py", f"--workdir={tmp_path / 'run'}"]
    assert "'nowhere/none.py' does not exist" in refused(start(*arguments, flags=False))


def test_wrong_config_is_refused_before_the_workdir_is_made(start, tmp_path):
    message = refused(start("--config.szie=3", "--config.section.steps=0"))
    assert "2 problems in the config" in message
    assert "did you mean config.size?" in message
    assert "steps must be positive" in message
    assert not (tmp_path / "run").exists()


def test_workdir_that_cannot_be_written_is_refused(start, config_file):
    arguments = [f"--config={config_file}", f"--workdir={config_file}/run"]
    assert "choose another --workdir" in refused(start(*arguments, flags=False))


class Done(UserError):
    exit_code = 0


@pytest.mark.parametrize(
    "error, code, shown",
    [
        (UserError("choose another"), 2, "error: choose another\n"),
        (RunFailed("loss is not finite"), 1, "error: loss is not finite\n"),
        (Done("stopped, run again to resume"), 0, "stopped, run again to resume\n"),
    ],
)
def test_errors_exit_with_their_code_and_message(start, error, code, shown):
    def fail(config, workdir):
        print("begun")
        raise error

    found, runs, out, err = start(run=fail)
    assert (found, len(runs), out, err) == (code, 1, "begun\n", shown)


def test_error_in_the_program_is_not_hidden(config_file, tmp_path):
    def fail(config, workdir):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launch_training(
            "", Config, fail, [f"--config={config_file}", f"--workdir={tmp_path / 'run'}"]
        )


def test_warnings_reach_the_user_and_lesser_messages_do_not():
    code = """
from absl import flags, logging
from distill.command.launch import launch
launch("", flags.FlagValues(), lambda _: [logging.info("so far"), logging.warning("broken image")])
"""
    done = run_python("-c", code)
    assert done.returncode == 0
    assert done.stderr.count("broken image") == 1
    assert "so far" not in done.stderr


def test_arguments_come_from_the_command_line_by_default(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["distill", "one", "two"])
    with pytest.raises(SystemExit) as caught:
        launch("", flags.FlagValues(), lambda arguments: print(arguments))
    assert caught.value.code == 0
    assert capsys.readouterr().out == "['one', 'two']\n"


def test_flags_are_parsed_into_their_types():
    values = flags.FlagValues()
    flags.DEFINE_integer("count", 3, "How many.", flag_values=values)
    parse(values, ["--count=5"])
    assert values.count == 5
    with pytest.raises(UserError, match="count"):
        parse(values, ["--count=many"])


@pytest.mark.parametrize("arguments", [[], pytest.param(["--help"], marks=pytest.mark.slow)])
def test_a_reader_that_has_read_enough_gets_no_traceback(arguments):
    command = [sys.executable, "-m", "pipelines.cli", "configs", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_another_pipe_that_breaks_is_not_hidden():
    with pytest.raises(BrokenPipeError):
        launch("", flags.FlagValues(), lambda arguments: raise_(BrokenPipeError()), [])


def raise_(error):
    raise error


@pytest.mark.parametrize("met", ["raise KeyboardInterrupt", "signal.raise_signal(signal.SIGINT)"])
def test_ctrl_c_while_importing_leaves_no_trace(met):
    script = (
        "import signal\n"
        # A shell may have told what it starts to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from distill.command.entry import imported, interruptible\n"
        "with interruptible():\n"
        "    imported()\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "with interruptible():\n"
        f"    {met}\n"
    )
    done = run_python("-c", script)
    assert (done.returncode, done.stderr.strip()) == (130, "stopped")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("JAX_ENABLE_COMPILATION_CACHE", "JAX cannot be imported as the environment has it"),
        ("JAX_COMPILATION_CACHE_MAX_SIZE", "JAX cannot be imported as the environment has it"),
        ("JAX_PLATFORMS", "JAX_PLATFORMS is 'banana'; such as cpu, cuda and tpu are known"),
    ],
)
def test_variables_that_jax_cannot_read_are_no_traceback(name, said, tmp_path):
    script = "from distill.command.entry import main; main()"
    run = ("pretrain", "--config=pretrain/digits", f"--workdir={tmp_path / 'run'}")
    done = run_python("-c", script, *run, env=os.environ | {name: "banana"})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "banana" in done.stderr and said in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_standard_output_that_is_full_is_named():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "configs"],
            cwd=REPOSITORY,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "error: standard output cannot be written: No space left on device" in done.stderr
