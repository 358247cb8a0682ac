"""The rows of `accelerator.py`, most important first, and what is told of each."""

import dataclasses
import math
import shlex
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A command to run on the device."""

    name: str
    script: str
    """A file of this directory, which takes `--json`."""
    flags: tuple[str, ...] = ()
    tiny_flags: tuple[str, ...] = ()
    """What follows the flags at sizes that mean nothing; the last of equal flags counts."""
    tell: Callable[[dict[str, Any]], str]
    """The figures it writes, in a line."""
    least_seconds: float = 40.0
    """With less left it is not begun. A guess: mostly start and compilation."""
    most_seconds: float = 150.0
    """After which it is stopped, so that the rows behind it get their turn."""
    xla_flags: tuple[str, ...] = ()
    """Added to the user's."""
    environment: tuple[tuple[str, str], ...] = ()

    def shrunk(self) -> "Row":
        """The same at sizes that mean nothing, as long as it takes."""
        return dataclasses.replace(
            self, flags=(*self.flags, *self.tiny_flags), tiny_flags=(), most_seconds=math.inf
        )

    @property
    def command(self) -> str:
        """What to type to run it by hand."""
        settings = [f"{name}={value}" for name, value in self.environment]
        if self.xla_flags:
            settings.append(f"XLA_FLAGS={shlex.quote(' '.join(self.xla_flags))}")
        return " ".join([*settings, "python", f"benchmarks/{self.script}", *self.flags])


def _tell_machine(f: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in f["versions"].items())
    driver = f"driver {f['driver']}, " if f["driver"] else ""
    return f"{f['device_count']} × {f['device_kind']}, {driver}{f['runtime']}, {versions}"


def _tell_attention(f: dict[str, Any]) -> str:
    def worst(which):
        return max(error for c in f["comparisons"] for error in c[which].values())

    kernels = " and ".join(sorted({c["kernel"] for c in f["comparisons"]}))
    return (
        f"{kernels}: errors up to {worst('errors'):.1e}, the plain kernel's "
        f"{worst('plain_errors'):.1e}, forward and gradient"
    )


def _tell_repeated(f: dict[str, Any]) -> str:
    differing = len(f["differing"])
    told = f"{differing} of {f['arrays']} arrays differ" if differing else "the same bits"
    return f"{told} after {f['steps']} steps, fingerprint {f['fingerprint']}"


def _tell_step(f: dict[str, Any]) -> str:
    mfu = "MFU unknown for this device" if f["mfu"] is None else f"MFU {f['mfu']:.1%}"
    peak, planned = f["peak_memory_bytes"] / 2**30, f["planned_memory_bytes"] / 2**30
    return (
        f"{1e3 * f['step_seconds']['median']:,.1f} ms, {f['images_per_second']:,.0f} images/s, "
        f"{mfu}, memory {peak:,.2f} GiB, planned {planned:,.2f}, compiled in "
        f"{f['compile_seconds']:.0f} s"
    )


def _tell_timm(f: dict[str, Any]) -> str:
    times = ", ".join(f"{name} {1e3 * s:,.1f} ms" for name, s in f["step_seconds"].items())
    return f"{times}: {f['speedup']:.2f} times timm's speed"


def _repeated(name: str, *flags: str, xla_flags: tuple[str, ...] = ()) -> Row:
    return Row(
        name=f"repeated step{name}",
        script="repeated_step.py",
        flags=("--teacher=L/16", "--student=B/16", "--batch_size=128", *flags),
        tiny_flags=(*_TINY, *_tiny_sizes("teacher_"), *_tiny_sizes("student_")),
        tell=_tell_repeated,
        xla_flags=xla_flags,
    )


def _pretrain(model: str, batch_size: int, remat: str, *flags: str) -> Row:
    return _step("pretrain", {"model": model}, batch_size, remat, flags, _tiny_sizes(""))


def _distill(teacher: str, student: str, batch_size: int, remat: str, *flags: str) -> Row:
    tiny = (*_tiny_sizes("teacher_"), *_tiny_sizes("student_"))
    models = {"teacher": teacher, "student": student}
    return _step("distill", models, batch_size, remat, flags, tiny)


def _step(mode, models, batch_size, remat, flags, tiny) -> Row:
    others = "".join(f", {flag.removeprefix('--')}" for flag in flags)
    return Row(
        name=f"{mode} {' → '.join(models.values())}, batch {batch_size}, remat {remat}{others}",
        script="step_time.py",
        flags=(
            mode,
            *(f"--{role}={model}" for role, model in models.items()),
            f"--batch_size={batch_size}",
            f"--remat={remat}",
            "--steps=10",
            *flags,
        ),
        tiny_flags=(*_TINY, "--warmup=1", "--steps=2", *tiny),
        tell=_tell_step,
    )


def _tiny_sizes(prefix: str) -> tuple[str, ...]:
    return tuple(f"--{prefix}{size}" for size in ("width=16", "depth=2", "mlp_dim=32", "heads=2"))


# Patches of 14 and of 16 both divide the image.
_TINY = ("--batch_size=4", "--image_size=112", "--num_classes=10")
# Its passes cost by the layer, so a few tell of all 48.
_SHALLOW = "--teacher_depth=8"

ROWS = (
    Row(name="machine", script="machine.py", tell=_tell_machine),
    Row(
        name="attention kernel",
        script="attention_kernel.py",
        flags=("--kernel=cudnn",),
        tiny_flags=("--kernel=auto",),
        tell=_tell_attention,
    ),
    _repeated(""),
    _pretrain("L/16", 256, "dots"),
    _distill("L/16", "B/16", 256, "none"),
    Row(
        name="pretrain L/16 and timm's, in turns",
        script="against_timm.py",
        flags=("--model=L/16", "--batch_size=64"),
        tiny_flags=(*_TINY, "--rounds=2", "--steps=2", *_tiny_sizes("")),
        tell=_tell_timm,
        # Compiles twice.
        least_seconds=90.0,
        most_seconds=240.0,
        # What JAX took at its start, PyTorch could not have.
        environment=(("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),),
    ),
    _distill("G/14", "B/16", 256, "none", _SHALLOW),
    _pretrain("B/16", 256, "none"),
    _pretrain("L/16", 64, "none"),
    _repeated(", deterministic", xla_flags=("--xla_gpu_exclude_nondeterministic_ops=true",)),
    _repeated(", plain attention", "--attention=plain"),
    _pretrain("L/16", 256, "dots", "--attention=plain"),
    _pretrain("L/16", 256, "full"),
    _pretrain("L/16", 512, "dots"),
    _pretrain("B/16", 512, "dots"),
    _distill("L/16", "B/16", 512, "dots"),
    _distill("G/14", "B/16", 512, "dots", _SHALLOW),
    _pretrain("L/16", 128, "none"),
    _pretrain("B/16", 1024, "full"),
    _pretrain("L/16", 256, "dots", "--unroll"),
)
