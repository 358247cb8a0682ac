"""JAX on the CPU, and a tiny teacher that tests share."""

import functools
import gc
import os
import signal
import tempfile
from pathlib import Path

# Shells start what runs in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Threads of torch wait for each other longer than they take to multiply tiny matrices.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test's process lives through many runs, and would have the memory of the largest to its end.
os.environ.setdefault("DISTILL_KEEP_MEMORY", "0")

# Compiling is most of what tests do, and what they run is tiny. The last two flags, an older code
# generator and one module instead of many, make a training step compile in a third of the time.
OLDER_CODE_GENERATOR = "--xla_cpu_use_fusion_emitters=false"
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    f"{OLDER_CODE_GENERATOR} --xla_cpu_parallel_codegen_split_count=1",
)
# Tests compile the same tiny programs again and again, in this process and in those it starts.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="distill-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest


def pytest_ignore_collect(collection_path, config):
    """Leaves out what has no test of the kind that is asked for, unread: imports take long."""
    kind = config.getoption("markexpr")
    if kind in ("slow", "benchmark") and collection_path.name.startswith("test_"):
        return f"mark.{kind}" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(items):
    """Puts the files that take longest first, so that no worker is left with one at the end."""
    long = ("export", "pipelines", "teachers", "train")
    items.sort(key=lambda item: item.path.parent.name not in long)


def pytest_collection_finish():
    """Spares what lasts to the end: imported modules from the collector, programs from loading."""
    gc.collect()
    gc.freeze()
    _keep_loaded_programs()
    _compile_networks()


def _keep_loaded_programs():
    """Has programs that the cache holds loaded once a process: it takes a tenth of a tiny run."""
    from jax._src import compilation_cache

    load, loaded = compilation_cache.get_executable_and_time, {}

    @functools.wraps(load)
    def load_once(key, options, backend, devices):
        place = key, backend, devices
        if place not in loaded:
            program, seconds = load(key, options, backend, devices)
            if program is None:
                return program, seconds
            # Not all of a suite's: they take memory.
            if len(loaded) == 256:
                loaded.clear()
            loaded[place] = program, seconds
        return loaded[place]

    compilation_cache.get_executable_and_time = load_once


def _compile_networks():
    """Has networks compiled whole where tests call them: operation by operation takes seconds."""
    from distill.nn.network import Network

    apply, init = Network.apply, Network.init

    @functools.lru_cache(maxsize=64)
    def compiled(network, method):
        return jax.jit(functools.partial(apply, network, method=method))

    @functools.wraps(apply)
    def apply_whole(self, params, *inputs, method=None):
        is_traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, inputs)))
        # Of functions made for a call, each is another one.
        if is_traced or getattr(method, "__closure__", None):
            return apply(self, params, *inputs, method=method)
        return compiled(self, method)(params, *inputs)

    @functools.lru_cache(maxsize=64)
    def compiled_init(network):
        return jax.jit(functools.partial(init, network))

    @functools.wraps(init)
    def init_whole(self, key):
        return init(self, key) if isinstance(key, jax.core.Tracer) else compiled_init(self)(key)

    Network.apply, Network.init = apply_whole, init_whole


@pytest.fixture(scope="module", autouse=True)
def figures():
    """Leaves figures out of pages, but for the tests of them, which override this."""
    from distill.report import html

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "_png", lambda drawing: b"")
        yield


@pytest.fixture(scope="module")
def tpu_compiler():
    """Lets libtpu compile, which ends the process over a flag for CPUs that it does not know."""
    import jax

    # Has the CPU's flags read.
    jax.devices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(OLDER_CODE_GENERATOR, ""))
        yield


@pytest.fixture
def runtimes_in_this_process():
    """Exports are run beside JAX, not in processes of their own."""
    import exports

    with exports.runtimes_in_this_process():
        yield


@pytest.fixture(scope="session")
def teacher_workdir(tmp_path_factory) -> Path:
    """A tiny teacher, trained for ten steps."""
    import support

    from distill.train.workdir import Workdir
    from pipelines import pretrain

    path = tmp_path_factory.mktemp("teacher")
    pretrain.run(support.pretrain_config(), Workdir(path))
    return path


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Three classes in root/split/class: 24 training images and 6 each to evaluate, as JPEG."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in {"train": 8, "validation": 2, "test": 2}.items():
        for level, name in enumerate(("dark", "grey", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(80 * level, 80 * level + 60, (20, 30, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return root
