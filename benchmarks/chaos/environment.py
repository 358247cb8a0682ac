"""What has to be set before JAX is imported, and what is imported before trials are forked."""

import contextlib
import gc
import importlib
import os
import pkgutil
import warnings
from pathlib import Path

# Compiling is most of what tiny runs do; see tests/conftest.py. Pools of threads would not live
# through a fork.
_SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "DISTILL_KEEP_MEMORY": "0",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_COMMANDS = (
    *("pretrain", "distill_student", "store_targets", "finetune", "evaluate", "export"),
    *("scaling_study", "prepare", "predict", "inspect_path", "train_pair", "train_head"),
)
_LATER = ("tensorboard", "grain", "sklearn.datasets", "matplotlib.figure", "array_record")
_WHOLE = ("configs", "distill", "students", "teachers")


def settle(cache: Path) -> None:
    """Sets it, for this process and those it starts.

    Args:
      cache: where compiled programs are kept, as those of a user are.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    os.environ["XDG_CACHE_HOME"] = str(cache)


def load(commands: bool) -> None:
    """Imports what trials need: a child that is forked then begins with its work.

    No backend of JAX is begun, as its threads would not be there in a child.

    Args:
      commands: whether they run commands.
    """
    if commands:
        for name in (*(f"pipelines.{command}" for command in _COMMANDS), *_LATER):
            importlib.import_module(name)
        for package in map(importlib.import_module, _WHOLE):
            for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                # What an optional library is missing for, nothing here runs.
                with contextlib.suppress(ImportError):
                    importlib.import_module(one.name)
    # A command's module runs as the program in a child, and is imported already.
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
    warnings.filterwarnings("ignore", ".*fork", RuntimeWarning)
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    gc.collect()
    gc.freeze()
