"""Files that are gone, cut, zero, another by a bit or no files, and commands that read them."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.chaos import facts, forked, moments, programs
from benchmarks.chaos.fault import CLEAN, SILENT, Fault, Outcome
from benchmarks.chaos.mutations import flipped

# What has no checksums, see docs/reliability.md: another digit in it is another digit.
_UNCHECKED = ("metrics.jsonl", "evaluations.jsonl")
_NOT_READ = ("train.log", "report.html", ".lock")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A command that reads what was written."""

    name: str
    damaged: str
    """What it reads, of what is prepared; it has a copy of its own, a file of which is damaged."""
    arguments: Callable[[Path, Path], list[str]]
    """Of the directory that is prepared, and of its own."""
    result: str
    """What it writes of its own directory, whose facts must be the same."""


def _of_copy(name: str, *more: str) -> Callable[[Path, Path], list[str]]:
    return lambda given, own: [name, f"--workdir={own / 'teacher'}", *more]


def _from(name: str, needed: tuple[str, ...]) -> Callable[[Path, Path], list[str]]:
    """A program whose starts are those in its own directory."""

    def arguments(given: Path, own: Path) -> list[str]:
        found = programs.PROGRAMS[name].arguments(given, own)
        for one in needed:
            found = [text.replace(str(given / one), str(own / one)) for text in found]
        return found

    return arguments


def _on(source: Callable[[Path], dict[str, str]]) -> Callable[[Path, Path], list[str]]:
    """Training on photographs."""

    def arguments(given: Path, own: Path) -> list[str]:
        few = {"model.channels": "3", "train.batch_size": "8", "model.num_classes": "3"}
        keys = programs.TEACHER | few | {"data.train_images": "none"} | source(own)
        return ["pretrain", *programs.flags("pretrain/digits", own / "run", keys)]

    return arguments


def _predicted(given: Path, own: Path) -> list[str]:
    return [
        "predict",
        str(own / "export"),
        str(given / "photos/test/a"),
        f"--output={own}/run.json",
    ]


SCENES = {
    one.name: one
    for one in (
        Scene("resumed", "half/run", _from("training", ()), "run"),
        Scene("complete", "teacher", _of_copy("inspect"), "nothing"),
        Scene("evaluated", "teacher", _of_copy("evaluate", "--output=OWN/run.jsonl"), "run.jsonl"),
        Scene(
            "best evaluated",
            "teacher",
            _of_copy("evaluate", "--best", "--output=OWN/run.jsonl"),
            "run.jsonl",
        ),
        Scene(
            "exported",
            "teacher",
            _of_copy("export", "--format=stablehlo", "--images=20", "--output=OWN/run"),
            "run",
        ),
        Scene("branched", "teacher", _from("branch", ("teacher",)), "run"),
        Scene("finetuned", "teacher", _from("finetuning", ("teacher",)), "run"),
        Scene("distilled", "teacher", _from("distillation", ("teacher",)), "run"),
        Scene("stored", "teacher", _from("store", ("teacher",)), "run"),
        Scene("replayed", "targets", _from("replay", ("targets",)), "run"),
        Scene("half stored", "half store/run", _from("store", ()), "run"),
        Scene("served", "export", _predicted, "run.json"),
        Scene(
            "prepared",
            "prepared",
            _on(lambda own: {"data.source": f"prepared:{own / 'prepared'}"}),
            "run",
        ),
        Scene(
            "cached",
            "cache",
            _on(
                lambda own: {
                    "data.source": f"folder:{own.parents[1] / 'photos'}",
                    "data.cache": str(own / "cache"),
                    "data.cache_gib": "0.01",
                }
            ),
            "run",
        ),
    )
}


def prepare(given: Path) -> None:
    """Makes what is damaged, and what the commands make of it as it is."""
    programs.starts(given)
    for name, at, made in (("training", "checkpoints", "half"), ("store", "run", "half store")):
        _half(given, name, at, given / made)
    for name, made in (("export", "teacher/export"), ("preparation", "run")):
        own = given / "made" / name
        programs.PROGRAMS[name].begin(given, own)
        programs.needed(programs.complete(programs.PROGRAMS[name], given, own))
        shutil.move(own / made, given / {"export": "export", "preparation": "prepared"}[name])
    own = given / "made" / "cache"
    own.mkdir()
    arguments = SCENES["cached"].arguments(given, own)
    done = forked.command([text.replace(str(own), str(own)) for text in arguments])
    programs.needed(forked.run(done, own / "log", seconds=programs.LIMIT))
    shutil.move(own / "cache", given / "cache")
    for scene in SCENES.values():
        own = given / "reference" / scene.name
        programs.needed(_played(scene, given, own))


def _half(given: Path, name: str, at: str, own: Path) -> None:
    """What a program has written when it is killed at half of its moments of a kind."""
    program, log = programs.PROGRAMS[name], own.with_name(f"{own.name}.moments")
    whole = given / "made" / own.name
    program.begin(given, whole)
    programs.needed(programs.complete(program, given, whole, moments.record(whole, log)))
    kinds = moments.recorded(log)
    calls = ("rename", "replace")
    kind = max((k for k in kinds if k.startswith(calls) and at in k), key=kinds.count)
    program.begin(given, own)
    before = moments.kill_at(own, kind, max(kinds.count(kind) // 2, 1), past=True)
    killed = forked.command(program.arguments(given, own), before)
    ended = forked.run(killed, own.with_name(f"{own.name}.log"), seconds=programs.LIMIT)
    if ended.code != -9:
        raise RuntimeError(f"{name} was not killed at {kind}: {ended.last}")


def _played(scene: Scene, given: Path, own: Path, damage: Callable[[Path], str] | None = None):
    """Runs a scene's command on its own copy of what it reads."""
    own.mkdir(parents=True)
    shutil.copytree(given / scene.damaged, own / Path(scene.damaged).name, symlinks=True)
    if damage:
        damage(own / Path(scene.damaged).name)
    arguments = [text.replace("OWN", str(own)) for text in scene.arguments(given, own)]
    program = programs.Program(scene.name, lambda _, __: arguments)
    return programs.complete(program, given, own)


def _result(scene: Scene, own: Path) -> dict[str, object]:
    """The facts of what a scene's command wrote."""
    found = {
        name: fact
        for name, fact in programs.facts_beside(own).items()
        if name == scene.result or name.startswith(f"{scene.result}/")
    }
    # Older checkpoints are what they were, whole or not.
    folder = f"{scene.result}/checkpoints/"
    steps = [int(name.removeprefix(folder)) for name in found if name.startswith(folder)]
    for step in sorted(steps)[:-1]:
        del found[f"{folder}{step}"]
    return found


def damaged(file: Path, random: Random) -> str:
    """Damages a file, and says how."""
    ways = [
        "deleted",
        "cut",
        "zero",
        "flipped",
        "flipped",
        "a directory",
        "a link to itself",
        "longer",
    ]
    if os.geteuid():
        ways.append("unreadable")
    way, content = random.choice(ways), file.read_bytes()
    if way == "cut":
        file.write_bytes(content[: random.randrange(max(len(content), 1))])
    elif way == "zero":
        file.write_bytes(bytes(len(content)))
    elif way == "flipped":
        file.write_bytes(flipped(content, random) if content else b"\x80")
    elif way == "longer":
        file.write_bytes(content + random.randbytes(random.choice((1, 7, 4096))))
    elif way == "unreadable":
        file.chmod(0)
    else:
        file.unlink()
        if way == "a directory":
            file.mkdir()
        elif way == "a link to itself":
            file.symlink_to(file.name)
    return way


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Damages a file of what a command reads, and runs it."""
    scene = SCENES[random.choice(sorted(SCENES))]
    said = ""

    def damage(copy: Path) -> str:
        nonlocal said
        files = sorted(one for one in copy.rglob("*") if one.is_file() and not one.is_symlink())
        file = random.choice([one for one in files if not one.name.startswith(_NOT_READ)])
        said = f"{scene.name}: {file.relative_to(copy)} {damaged(file, random)}"
        return said

    # As deep as what is prepared, for paths that are recorded relative.
    own = given / "played" / directory.name
    shutil.rmtree(own, ignore_errors=True)
    for beside in (".facts.json", ".log"):
        own.with_name(own.name + beside).unlink(missing_ok=True)
    ended = _played(scene, given, own, damage)
    if ended.fault:
        return Outcome(ended.fault, said, ended.last)
    if ended.code:
        shutil.rmtree(own)
        return Outcome(CLEAN, f"{said}: refused")
    found, expected = _result(scene, own), _result(scene, given / "reference" / scene.name)
    different = [
        one
        for one in facts.differing(found, expected)
        if not any(name in said and name in one for name in _UNCHECKED)
    ]
    if different:
        return Outcome(SILENT, said, "\n".join(different))
    shutil.rmtree(own)
    return Outcome(CLEAN, f"{said}: the same")


FAULT = Fault(
    name="damages",
    tries="a file of a run, a store, an export, prepared data or a cache deleted, cut, zero, "
    "longer, another by a bit, a directory, a link to itself or unreadable; then a command that "
    "reads it",
    trials=1000,
    trial=trial,
    prepare=prepare,
    seconds=2 * programs.LIMIT,
)
