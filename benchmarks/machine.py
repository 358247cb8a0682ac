"""Says what machine figures come from.

python benchmarks/machine.py [--json=FILE]
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

# The code beside this file is what is used, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write
from distill.json_files import write_json
from distill.terminal import accept_any_text


def nvidia_driver() -> str | None:
    """NVIDIA's driver version, or None where its tool is not there or finds no driver."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else None


def environment() -> dict[str, Any]:
    """What a figure depends on besides the command line."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "device_count": jax.device_count(),
        # Such as "PJRT C API cuda 12090": CUDA's or libtpu's version.
        "runtime": " ".join(device.client.platform_version.split()),
        "driver": nvidia_driver() if device.platform == "gpu" else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def columns(rows: dict[str, str]) -> str:
    """Names and values, a line each."""
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def write_figures(file: Path | None, figures: dict[str, Any]) -> None:
    """Writes figures as JSON, if there is a file for them."""
    if file:
        write_json(file, figures)


def environment_rows(found: dict[str, Any]) -> dict[str, str]:
    """`environment` for a reader."""
    return {
        "device": f"{found['device_count']} × {found['device_kind']}",
        "runtime": found["runtime"] + (f", driver {found['driver']}" if found["driver"] else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in found["versions"].items()),
        "XLA_FLAGS": found["xla_flags"] or "none",
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Looks, prints."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write it here")
    args = parser.parse_args(argv)
    found = environment()
    print(columns(environment_rows(found)))
    write_figures(args.json, found)


if __name__ == "__main__":
    main()
