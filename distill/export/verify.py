"""Runs an export in its own runtime, in a process without this project, beside JAX."""

import dataclasses
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from distill.export.model import Artefact, Exportable, ExportMismatch

AGREEMENT = 0.99
"""Share of the examples on which an export that is not exact prefers JAX's class."""
CHECKED_BATCH_SIZES = (1, 3)
"""Besides the batches of 32 that all examples are run in."""
LARGEST_BATCH = 32
TIMED_BATCHES = (1, 32)

CHECKER = Path(__file__).with_name("check.py")


@dataclasses.dataclass(frozen=True)
class Samples:
    """Examples to compare on."""

    inputs: Mapping[str, np.ndarray]
    """Of the exported function, by name: N of each."""
    labels: np.ndarray | None = None
    """[N], where they are known and the model's classes are theirs; −1 of an image without."""
    name: str = "random pixels"
    """Where they are from."""

    def __len__(self) -> int:
        """N."""
        return len(next(iter(self.inputs.values())))

    def of_size(self, size: int) -> dict[str, np.ndarray]:
        """The inputs of the first so many, again from the first where there are no more."""
        return {name: np.resize(x, (size, *x.shape[1:])) for name, x in self.inputs.items()}


@dataclasses.dataclass(frozen=True)
class Checked:
    """What was seen of one artefact."""

    name: str
    bytes: int
    difference: float
    """Largest, of a logit from JAX in float32; of the embedding where there are no logits."""
    agreement: float
    """Share of the examples on which both prefer the same class; without classes the mean cosine
    between the embeddings."""
    accuracy: float | None
    """On images with labels; None where there are none."""
    milliseconds: dict[str, float]
    """Median time of a batch of 1 and of 32, on this machine's CPU."""


class Verifier:
    """Compares exports of one model on the same examples.

    Args:
      model: what JAX computes, in float32, whatever the exports compute in.
      samples: at least one.
    """

    def __init__(self, model: Exportable, samples: Samples):
        self._model = dataclasses.replace(model, dtype="float32")
        self._samples = samples

    @functools.cached_property
    def expected(self) -> dict[str, np.ndarray]:
        """JAX's outputs for all examples, computed on the CPU as runtimes do.

        Accelerators round float32 products unless told not to.

        Raises:
          ExportMismatch: if one is not finite, which no export could equal.
        """
        cpu, count = jax.devices("cpu")[0], len(self._samples)
        serve = jax.jit(self._model.function())
        # All batches have one shape, for one compilation.
        padded = self._samples.of_size(count + -count % LARGEST_BATCH)
        with jax.default_device(cpu), jax.default_matmul_precision("highest"):
            params = jax.device_put(self._model.host_params, cpu)
            parts = []
            for start in range(0, count, LARGEST_BATCH):
                part = [value[start : start + LARGEST_BATCH] for value in padded.values()]
                answers = jax.device_get(serve(params, *part))
                parts.append({name: value[: count - start] for name, value in answers.items()})
        expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for name, values in expected.items():
            sound = np.isfinite(values).reshape(len(values), -1).all(axis=-1)
            if not sound.all():
                raise ExportMismatch(
                    f"{name} of the model is not finite for {self._example} {np.argmin(sound)} of "
                    f"{self._samples.name}, which no export could equal; check the model"
                )
        return expected

    @property
    def accuracy(self) -> float | None:
        """JAX's, on images with labels; None where there are none."""
        return self._accuracy(self.expected.get("logits"))

    def _accuracy(self, logits: np.ndarray | None) -> float | None:
        if logits is None or self._samples.labels is None:
            return None
        has_label = self._samples.labels >= 0
        if not has_label.any():
            return None
        return float(np.mean((logits.argmax(-1) == self._samples.labels)[has_label]))

    def __call__(self, artefact: Artefact) -> Checked:
        """Runs an artefact and compares.

        Raises:
          ExportMismatch: if its runtime cannot run it, or it differs by more than it may.
        """
        batches = {str(size): self._samples.of_size(size) for size in self._sizes}
        batches["all"] = dict(self._samples.inputs)
        arrays: dict[str, Any] = {
            f"{batch}/{name}": value
            for batch, inputs in batches.items()
            for name, value in inputs.items()
        }
        with tempfile.TemporaryDirectory(prefix="distill-export-") as directory:
            np.savez(Path(directory) / "inputs.npz", **arrays)
            seconds = run_artefact(artefact, Path(directory))
            with np.load(Path(directory) / "outputs.npz", allow_pickle=False) as file:
                outputs = dict(file)
        found = [self._compare(artefact, outputs, batch) for batch in batches]
        return Checked(
            name=artefact.name,
            bytes=size_of(artefact.path),
            difference=max(difference for difference, _ in found),
            agreement=found[-1][1],
            accuracy=self._accuracy(outputs.get("all/logits")),
            milliseconds={size: 1000 * second for size, second in seconds.items()},
        )

    @property
    def _sizes(self) -> Sequence[int]:
        return [size for size in CHECKED_BATCH_SIZES if size <= len(self._samples)]

    @property
    def _example(self) -> str:
        return "text" if self._model.kind == "text" else "image"

    def _compare(
        self, artefact: Artefact, outputs: dict[str, np.ndarray], batch: str
    ) -> tuple[float, float]:
        """The largest difference of a logit and the agreement; refuses what is beyond."""
        main = "logits" if "logits" in self.expected else "embedding"
        names = [name for name in self.expected if f"{batch}/{name}" in outputs]
        if main not in names:
            raise ExportMismatch(f"the {artefact.name} export has no output {main!r}")
        count = None if batch == "all" else int(batch)
        differences = {}
        for name in names:
            got, expected = outputs[f"{batch}/{name}"], self.expected[name][:count]
            if got.shape != expected.shape:
                raise ExportMismatch(
                    f"{name} of the {artefact.name} export has shape {got.shape}, expected "
                    f"{expected.shape}"
                )
            differences[name] = float(np.max(np.abs(got - expected)))
        allowed = {name: self._model.tolerance(name) for name in names}
        # Of a tie with what is not a number, that is the worst.
        worst = max(names, key=lambda n: np.nan_to_num(differences[n] / allowed[n], nan=np.inf))
        agreement = _agreement(outputs[f"{batch}/{main}"], self.expected[main][:count], main)
        if artefact.exact and not differences[worst] <= allowed[worst]:
            raise ExportMismatch(
                f"{worst} of the {artefact.name} export differs from JAX by "
                f"{differences[worst]:.2e} in batches of {batch}; allowed is {allowed[worst]:.2g}"
            )
        if not np.isfinite(differences[worst]):
            raise ExportMismatch(f"{worst} of the {artefact.name} export is not finite")
        if batch == "all" and not agreement >= AGREEMENT:
            raise ExportMismatch(
                f"the {artefact.name} export agrees with JAX on {agreement:.2%} of "
                f"{len(self._samples)} {self._example}s; at least {AGREEMENT:.0%} is expected. "
                f"{main} differ by up to {differences[main]:.2g}, which decides where two classes "
                "are as near: train longer, compare on more --images, or export float32"
            )
        return differences[main], agreement


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def run_artefact(
    artefact: Artefact, directory: Path, timed: Sequence[int] = TIMED_BATCHES
) -> dict[str, float]:
    """Runs the script; returns the seconds that a batch takes, by its size.

    Args:
      artefact: what is run.
      directory: with `inputs.npz`; `outputs.npz` is written to it.
      timed: sizes of batches that are timed.

    Raises:
      ExportMismatch: if its runtime cannot run it.
    """
    script = [sys.executable, "-I", str(CHECKER)]
    command = [*script, artefact.runtime, str(artefact.path), directory, *timed]
    try:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ExportMismatch(f"the {artefact.name} export cannot be run: {error}") from error
    if done.returncode:
        raise ExportMismatch(
            f"the {artefact.name} export cannot be run:\n{done.stderr.strip()[-2000:]}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _agreement(got: np.ndarray, expected: np.ndarray, what: str) -> float:
    if what == "logits":
        return float(np.mean(got.argmax(-1) == expected.argmax(-1)))
    lengths = np.linalg.norm(got, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float(np.mean(np.sum(got * expected, axis=-1) / np.maximum(lengths, 1e-12)))
