"""Tiny runs of the commands that write something, and what they start from."""

import dataclasses
import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.chaos import forked, moments
from benchmarks.chaos.facts import facts_of

TINY = {
    "train.batch_size": "32",
    "train.total_steps": "6",
    "train.log_every": "1",
    "train.eval_every": "2",
    "train.checkpoint_every": "2",
    "train.keep_checkpoints": "2",
    "train.example_images": "none",
}
_STUDENT = {
    "model.width": "8",
    "model.depth": "1",
    "model.mlp_dim": "16",
    "model.heads": "2",
    "optimizer.name": "sgd",
    "optimizer.weight_decay": "()",
    "schedule.warmup_steps": "2",
}
TEACHER = _STUDENT | {
    "schedule.cooldown_steps": "2",
    "data.train_images": "400",
    "train.keep_best": "val/cross_entropy",
}
LIMIT = 180
"""Seconds after which a command has hung."""


def flags(config: str, workdir: Path, *settings: dict[str, str], **more: str) -> list[str]:
    """Of a training command; the last of several values of a key counts."""
    keys = TINY
    for one in (*settings, {key.replace("__", "."): value for key, value in more.items()}):
        keys = keys | one
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return [f"--config={config}", f"--workdir={workdir}", *overrides]


@dataclasses.dataclass(frozen=True)
class Program:
    """A command, in a directory of its own."""

    name: str
    arguments: Callable[[Path, Path], list[str]]
    """Of the directory that all trials share, and of its own."""
    starts: tuple[str, ...] = ()
    """What it reads of the first: some of `_STARTS`."""
    copies: tuple[str, ...] = ()
    """What of the first it has in its own before it starts."""

    def begin(self, given: Path, own: Path) -> None:
        """Makes its own directory, and what it starts from where that is not there."""
        for name in (*self.starts, *self.copies):
            started(given, name)
        own.mkdir(parents=True)
        for name in self.copies:
            shutil.copytree(given / name, own / name, symlinks=True)

    def reference(self, given: Path) -> Path:
        """Where what comes of it without any fault stands, which is found where it is not there.

        Beside it are its `complete` facts, the moments it came by, and its seconds.
        """

        def make(own: Path) -> None:
            self.begin(given, own)
            file = beside(given / "reference" / self.name, "moments.jsonl")
            file.unlink(missing_ok=True)
            ended = needed(complete(self, given, own, moments.record(own, file)))
            beside(own, "seconds.json").write_text(json.dumps(ended.seconds), encoding="utf-8")

        return once(given / "reference" / self.name, make)


def _parent(given: Path, own: Path) -> list[str]:
    return ["pretrain", *flags("pretrain/digits", own / "run", TEACHER)]


def _branch(given: Path, own: Path) -> list[str]:
    cooldown = ["--config.schedule.cooldown_steps=4", "--config.train.keep_checkpoints=3"]
    return [
        "pretrain",
        f"--branch_from={given / 'teacher'}@4",
        f"--workdir={own / 'run'}",
        *cooldown,
    ]


def _finetune(given: Path, own: Path) -> list[str]:
    few = {"data.train_images": "400", "schedule.warmup_steps": "2", "model.image_size": "8"}
    start = {"start.workdir": str(given / "teacher")}
    return ["finetune", *flags("finetune/digits", own / "run", few, start)]


def _student(given: Path) -> dict[str, str]:
    return _STUDENT | {"data.train_images": "400", "teacher.workdir": str(given / "teacher")}


def _distil(given: Path, own: Path) -> list[str]:
    losses = {"matching.losses.embedding_mse": "0.1", "train.keep_best": "val/agreement"}
    return ["distill_student", *flags("distill/digits", own / "run", _student(given), losses)]


def _students(given: Path, own: Path) -> list[str]:
    keys = {key: one for key, one in _student(given).items() if not key.startswith("model.")}
    shape = "family vit variant mu/2 depth 1 mlp_dim 16 heads 2 image_size 8 channels 1".split()
    for name, width in (("a", "8"), ("b", "12")):
        model = dict(zip(shape[::2], shape[1::2], strict=True)) | {"width": width}
        keys |= {f"students.{name}.model.{key}": value for key, value in model.items()}
    keys["model"] = "none"
    return ["distill_student", *flags("distill/digits", own / "run", keys)]


def _store(given: Path, own: Path) -> list[str]:
    store = {"store.epochs": "0.5", "store.examples_per_file": "64"}
    return ["store_targets", *flags("distill/digits", own / "run", _student(given), store)]


def _replay(given: Path, own: Path) -> list[str]:
    keys = _student(given) | {"teacher": "none", "targets": str(given / "targets")}
    del keys["teacher.workdir"]
    return ["distill_student", *flags("distill/digits", own / "run", keys)]


def _export(given: Path, own: Path) -> list[str]:
    return ["export", f"--workdir={own / 'teacher'}", "--format=stablehlo", "--images=20"]


def _evaluate(given: Path, own: Path) -> list[str]:
    return ["evaluate", f"--workdir={own / 'teacher'}"]


def _study(given: Path, own: Path) -> list[str]:
    keys = {
        "base.data.train_images": "400",
        "base.optimizer.name": "sgd",
        "base.optimizer.weight_decay": "()",
        "base.schedule.warmup_steps": "1",
        "base.train.eval_every": "2",
        "base.train.checkpoint_every": "2",
        "base.train.example_images": "none",
        "base.train.total_steps": "8",
        "base.model.depth": "1",
        "resamples": "100",
        "sizes": "(('s', (('model.width', 8), ('model.mlp_dim', 16), ('model.heads', 2))),)",
        "durations": "(4, 8)",
    }
    overrides = [f"--config.{key}={value}" for key, value in keys.items()]
    return ["scaling_study", "--config=scaling/digits", f"--workdir={own / 'run'}", *overrides]


def _prepare(given: Path, own: Path) -> list[str]:
    options = [f"--output={own / 'run'}", "--workers=0"]
    return ["prepare", f"folder:{given / 'photos'}", *options]


PROGRAMS = {
    one.name: one
    for one in (
        Program("training", _parent),
        Program("branch", _branch, ("teacher",)),
        Program("finetuning", _finetune, ("teacher",)),
        Program("distillation", _distil, ("teacher",)),
        Program("students", _students, ("teacher",)),
        Program("store", _store, ("teacher",)),
        Program("replay", _replay, ("teacher", "targets")),
        Program("export", _export, (), ("teacher",)),
        Program("evaluation", _evaluate, (), ("teacher",)),
        Program("study", _study),
        Program("preparation", _prepare, ("photos",)),
    )
}
# What they start from, and the programs whose run it is.
_STARTS = {"photos": None, "teacher": "training", "targets": "store"}


def once(place: Path, make: Callable[[Path], None]) -> Path:
    """The path, which is made if it is not there; others that need it wait meanwhile.

    Args:
      place: of a file or directory.
      make: makes it, given its path.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    done = beside(place, "done")
    with beside(place, "lock").open("wb") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            make(place)
            done.touch()
    return place


def beside(place: Path, name: str) -> Path:
    """A file beside a directory."""
    return place.with_name(f"{place.name}.{name}")


def started(given: Path, name: str) -> Path:
    """What programs start from: photographs, a teacher, or targets it said."""

    def make(place: Path) -> None:
        program = PROGRAMS.get(_STARTS[name] or "")
        if program is None:
            photographs(place)
            return
        made = given / "made" / name
        shutil.rmtree(made, ignore_errors=True)
        program.begin(given, made)
        needed(complete(program, given, made))
        # What it recorded of where it was is that of where it is.
        (made / "run").rename(place)

    return once(given / name, make)


def photographs(root: Path, each: int = 6) -> None:
    """Writes root/{train,validation,test}/{a,b,c}/N.jpg, as noisy as photographs."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in {"train": each, "validation": 2, "test": 2}.items():
        for level, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(80 * level, 80 * level + 60, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.jpg")


def complete(
    program: Program, given: Path, own: Path, before: Any = None, part: str = ""
) -> forked.Ended:
    """Runs it to its end; what it left, or a part, is then in `facts.json` beside its directory."""
    file = beside(own, "facts.json")

    def note() -> None:
        file.write_text(json.dumps(facts_of(own, part)), encoding="utf-8")

    body = forked.command(program.arguments(given, own), before, note)
    return forked.run(body, beside(own, "log"), seconds=LIMIT)


def facts_beside(own: Path) -> dict[str, Any]:
    """What `complete` found."""
    return json.loads(beside(own, "facts.json").read_text(encoding="utf-8"))


def needed(ended: forked.Ended) -> forked.Ended:
    """Checks that a command which met no fault ended well.

    Raises:
      RuntimeError: if it did not: there is nothing to compare with.
    """
    if ended.code:
        raise RuntimeError(f"a command that met no fault ended with {ended.last}")
    return ended
