"""Compiled programs that are kept for the next command."""

import os
import types
import warnings

import pytest
from support import run_python

from distill.command import compiled
from distill.command.compiled import keep_compiled


class Config:
    """In place of JAX's, of which other tests' programs depend."""

    def __init__(self, directory=None, enabled=True):
        self.jax_compilation_cache_dir = directory
        self.jax_enable_compilation_cache = enabled

    def update(self, name, value):
        setattr(self, name, value)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keeps programs with a cache and a config of its own, which it returns."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    # Set for all tests.
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", raising=False)

    def keep(config=None):
        config = config or Config()
        monkeypatch.setattr(compiled, "jax", types.SimpleNamespace(config=config))
        keep_compiled()
        return config

    return keep


def test_programs_are_kept_in_the_users_cache_and_no_more_than_a_gibibyte(kept, tmp_path, capsys):
    config = kept()
    place = tmp_path / "cache" / "distill" / "compiled"
    assert config.jax_compilation_cache_dir == str(place)
    assert place.stat().st_mode & 0o077 == 0
    assert config.jax_compilation_cache_max_size == 2**30
    assert config.jax_persistent_cache_min_entry_size_bytes == -1
    assert capsys.readouterr().err == ""


def test_what_the_user_has_set_stays(kept, tmp_path, monkeypatch):
    assert vars(kept(Config("/elsewhere"))) == vars(Config("/elsewhere"))
    assert vars(kept(Config(enabled=False))) == vars(Config(enabled=False))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "1000")
    assert not hasattr(kept(), "jax_compilation_cache_max_size")


def test_a_cache_that_cannot_be_written_is_told_and_done_without(kept, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where a directory belongs")
    assert kept().jax_compilation_cache_dir is None
    said = capsys.readouterr().err
    assert said.startswith("warning: not every compiled program is kept")
    assert "Not a directory" in said and "JAX_ENABLE_COMPILATION_CACHE=false" in said


def test_what_was_begun_and_not_finished_is_removed(kept, tmp_path):
    place = tmp_path / "cache" / "distill" / "compiled"
    place.mkdir(parents=True)
    for name in ("whole", "half", "hardly"):
        (place / f"{name}-cache").write_bytes(b"program")
    (place / "whole-atime").write_bytes(bytes(8))
    (place / "hardly-atime").write_bytes(b"")
    kept()
    left = {file.name for file in place.iterdir()} - {".lockfile"}
    assert left == {"whole-cache", "whole-atime"}


def test_errors_of_the_cache_are_told_once_and_other_warnings_as_ever(kept, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *args: shown.append(str(message)))
    kept()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for program in ("jit_update", "jit_begin"):
            warnings.warn(
                f"Error writing persistent compilation cache entry for '{program}': OSError: full",
                stacklevel=1,
            )
        warnings.warn("something else", stacklevel=1)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "(OSError: full)" in said
    assert shown == ["something else"]


def test_what_cannot_be_read_is_deleted_to_be_compiled_again(kept, tmp_path, capsys):
    kept()
    place = tmp_path / "cache" / "distill" / "compiled"
    names = [
        f"{program}-{key}{end}"
        for program, key in (("jit_update", "1a"), ("jit_update", "2b"), ("jit_begin", "1a"))
        for end in ("-cache", "-atime")
    ]
    for name in names:
        (place / name).write_bytes(bytes(8))
    warnings.warn(
        "Error reading persistent compilation cache entry for 'jit_update': error: cut",
        stacklevel=1,
    )
    assert sorted(file.name for file in place.glob("jit*")) == sorted(names[4:])
    said = capsys.readouterr().err
    assert f"a compiled program in {place} could not be read (error: cut)" in said
    assert "compiled again, and kept" in said


PROGRAM = """
import jax, jax.numpy as jnp
from distill.command.compiled import keep_compiled
keep_compiled()
hits = []
jax.monitoring.register_event_listener(lambda name, **more: hits.append(name))
x = jnp.arange(12.0).reshape(3, 4)
grown = jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda _, x: jnp.tanh(x @ x.T @ x), x))(x)
print(hits.count("/jax/compilation_cache/cache_hits"), bytes(grown.tobytes()).hex())
"""


@pytest.mark.slow
def test_another_process_reads_what_was_kept_and_computes_the_same(tmp_path):
    kept = {
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    mine = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}

    def run(**more):
        done = run_python("-c", PROGRAM, env=mine | kept | more)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
        hits, values = done.stdout.split()
        return int(hits), values

    first, again = run(), run()
    assert first[0] == 0 and again[0] > 0 and first[1] == again[1]
    assert run(JAX_ENABLE_COMPILATION_CACHE="false") == first
    for file in tmp_path.rglob("*-cache"):
        file.write_bytes(file.read_bytes()[:20])
    done = run_python("-c", PROGRAM, env=mine | kept)
    assert done.returncode == 0 and done.stderr.count("warning:") == 1, done.stderr
    assert run() == again
    # What is kept is bounded: what comes later makes room for itself.
    size = sum(file.stat().st_size for file in tmp_path.rglob("*-cache"))
    run(JAX_COMPILATION_CACHE_MAX_SIZE=str(size * 4 // 5), XLA_FLAGS="--xla_cpu_max_isa=AVX")
    assert sum(file.stat().st_size for file in tmp_path.rglob("*-cache")) <= size * 4 // 5
