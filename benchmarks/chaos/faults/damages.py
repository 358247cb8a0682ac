"""Files that are gone, cut, zero, another by a bit or no files, and commands that read them."""

import dataclasses
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks.chaos import facts, forked, moments, programs
from benchmarks.chaos.fault import CLEAN, SILENT, Fault, Outcome
from benchmarks.chaos.mutations import flipped

# What has no checksums, see docs/reliability.md: another digit in it is another digit.
_UNCHECKED = ("metrics.jsonl", "evaluations.jsonl")
_NOT_READ = ("train.log", "report.html", ".lock", "events.out.tfevents", "MODEL_CARD.md")
_STEP = re.compile(r"/checkpoints/(\d+)/")


@dataclasses.dataclass(frozen=True)
class Scene:
    """A command that reads what was written."""

    name: str
    damaged: str
    """What it reads, of what is prepared; it has a copy of its own, a file of which is damaged."""
    arguments: Callable[[Path, Path], list[str]]
    """Of the directory that is prepared, and of its own."""
    starts: tuple[str, ...] = ()
    """What else it reads of what all trials share."""
    result: str = "run"
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


def _on(source: Callable[[Path, Path], dict[str, str]]) -> Callable[[Path, Path], list[str]]:
    """Training on photographs."""

    def arguments(given: Path, own: Path) -> list[str]:
        few = {"model.channels": "3", "train.batch_size": "8", "model.num_classes": "3"}
        keys = programs.TEACHER | few | {"data.train_images": "none"} | source(given, own)
        return ["pretrain", *programs.flags("pretrain/digits", own / "run", keys)]

    return arguments


def _predicted(given: Path, own: Path) -> list[str]:
    return [
        "predict",
        str(own / "export/stablehlo"),
        str(given / "photos/test/a"),
        f"--output={own}/run.json",
    ]


SCENES = {
    one.name: one
    for one in (
        Scene("resumed", "half/run", _from("training", ())),
        Scene(
            "inspected",
            "teacher",
            lambda given, own: ["inspect", str(own / "teacher")],
            result="nothing",
        ),
        Scene(
            "evaluated",
            "teacher",
            _of_copy("evaluate", "--output=OWN/run.jsonl"),
            result="run.jsonl",
        ),
        Scene(
            "best evaluated",
            "teacher",
            _of_copy("evaluate", "--best", "--output=OWN/run.jsonl"),
            result="run.jsonl",
        ),
        Scene(
            "exported",
            "teacher",
            _of_copy("export", "--format=stablehlo", "--images=20", "--output=OWN/run"),
        ),
        Scene("branched", "teacher", _from("branch", ("teacher",))),
        Scene("finetuned", "teacher", _from("finetuning", ("teacher",))),
        Scene("distilled", "teacher", _from("distillation", ("teacher",))),
        Scene("stored", "teacher", _from("store", ("teacher",))),
        Scene("replayed", "targets", _from("replay", ("targets",)), ("teacher",)),
        Scene("half stored", "half store/run", _from("store", ()), ("teacher",)),
        Scene("served", "export", _predicted, ("photos",), "run.json"),
        Scene(
            "prepared",
            "prepared",
            _on(lambda _, own: {"data.source": f"prepared:{own / 'prepared'}"}),
        ),
        Scene(
            "cached",
            "cache",
            _on(
                lambda given, own: {
                    "data.source": f"folder:{given / 'photos'}",
                    "data.cache": str(own / "cache"),
                    "data.cache_gib": "0.01",
                }
            ),
            ("photos",),
        ),
    )
}


def _written(given: Path, name: str) -> Path:
    """What is damaged, made where it is not there."""
    if name in ("teacher", "targets", "photos"):
        return programs.started(given, name)
    return programs.once(given / name, lambda place: _MADE[name](given, place))


def _moved(program: str, made: str) -> Callable[[Path, Path], None]:
    """What makes a part of what a program writes."""

    def make(given: Path, place: Path) -> None:
        shutil.copytree(programs.PROGRAMS[program].reference(given) / made, place)

    return make


def _halved(program: str, at: str) -> Callable[[Path, Path], None]:
    """What makes what a program has written when it is killed amid its moments at a place."""

    def make(given: Path, own: Path) -> None:
        halved = programs.PROGRAMS[program]
        log = programs.beside(halved.reference(given), "moments.jsonl")
        kinds = [one for one in moments.recorded(log) if one in (f"rename {at}", f"replace {at}")]
        killed = moments.kill_at(own, kinds[0], max(len(kinds) // 2, 1), past=True)
        halved.begin(given, own)
        body = forked.command(halved.arguments(given, own), killed)
        ended = forked.run(body, programs.beside(own, "log"), seconds=programs.LIMIT)
        if ended.code != -signal.SIGKILL:
            raise RuntimeError(f"{program} was not killed at {at}: {ended.last}")

    return make


def _cache(given: Path, place: Path) -> None:
    own = given / "made" / "cache"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    programs.started(given, "photos")
    body = forked.command(SCENES["cached"].arguments(given, own))
    programs.needed(forked.run(body, programs.beside(own, "log"), seconds=programs.LIMIT))
    shutil.move(own / "cache", place)


_MADE: dict[str, Callable[[Path, Path], None]] = {
    "half": _halved("training", "run/checkpoints"),
    "half store": _halved("store", "run/unfinished.array_record"),
    "export": _moved("export", "teacher/export"),
    "prepared": _moved("preparation", "run"),
    "cache": _cache,
}


def _played(
    scene: Scene, given: Path, own: Path, damage: Callable[[Path], None] | None = None
) -> forked.Ended:
    """Runs a scene's command on its own copy of what it reads."""
    written = _written(given, Path(scene.damaged).parts[0]) / Path(*Path(scene.damaged).parts[1:])
    for name in scene.starts:
        programs.started(given, name)
    own.mkdir(parents=True)
    copy = own / written.name
    # With its times, by which what is kept is known to fit.
    shutil.copytree(written, copy, symlinks=True)
    if damage:
        damage(copy)
    arguments = [text.replace("OWN", str(own)) for text in scene.arguments(given, own)]
    program = programs.Program(scene.name, lambda _, __: arguments)
    return programs.complete(program, given, own, part=scene.result)


def _result(scene: Scene, own: Path) -> dict[str, object]:
    """The facts of what a scene's command wrote."""
    found = programs.facts_beside(own)
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


def kind(file: Path) -> str:
    """What a file is: its path without numbers and names that are drawn."""
    return re.sub(r"[0-9a-f]{32}|\d+", "N", file.as_posix())


def drawn(files: Sequence[Path], random: Random) -> Path:
    """A file, of a kind that is drawn first: most files are parts of older checkpoints, and unread.

    Args:
      files: those there are.
      random: what draws.
    """
    steps = [int(step) for file in files for step in _STEP.findall(file.as_posix())]
    kinds: dict[str, list[Path]] = {}
    for file in files:
        step = _STEP.search(file.as_posix())
        older = step is not None and int(step[1]) < max(steps)
        kinds.setdefault("older" if older else kind(file), []).append(file)
    return random.choice(kinds[random.choice(sorted(kinds))])


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Damages a file of what a command reads, and runs it."""
    scene = SCENES[random.choice(sorted(SCENES))]
    # Beside what trials share, as paths that are recorded may be found from there.
    own = given / "played" / directory.name
    shutil.rmtree(own, ignore_errors=True)
    for name in ("facts.json", "log"):
        programs.beside(own, name).unlink(missing_ok=True)
    outcome = played(scene, own, given, lambda files: (drawn(files, random), random))
    if outcome.came == CLEAN:
        shutil.rmtree(own)
    return outcome


def played(
    scene: Scene, own: Path, given: Path, choose: Callable[[list[Path]], tuple[Path, Random]]
) -> Outcome:
    """Runs a scene with a file damaged.

    Args:
      scene: what is run.
      own: its directory, which is made.
      given: what all trials share.
      choose: of the files that are there the one to damage, and what draws how.
    """

    def undamaged(place: Path) -> None:
        programs.needed(_played(scene, given, place))

    reference = programs.once(given / "reference" / "scenes" / scene.name, undamaged)
    said = ""

    def damage(copy: Path) -> None:
        nonlocal said
        files = sorted(one for one in copy.rglob("*") if one.is_file() and not one.is_symlink())
        file, random = choose([one for one in files if not one.name.startswith(_NOT_READ)])
        said = f"{scene.name}: {file.relative_to(copy)} {damaged(file, random)}"

    ended = _played(scene, given, own, damage)
    if ended.fault:
        return Outcome(ended.fault, said, ended.last)
    if ended.code:
        return Outcome(CLEAN, f"{said}: refused")
    different = [
        one
        for one in facts.differing(_result(scene, own), _result(scene, reference))
        if not any(name in said and name in one for name in _UNCHECKED)
    ]
    if different:
        return Outcome(SILENT, said, "\n".join(different))
    return Outcome(CLEAN, f"{said}: the same")


FAULT = Fault(
    name="damages",
    tries="a file of a run, a store, an export, prepared data or a cache deleted, cut, zero, "
    "longer, another by a bit, a directory, a link to itself or unreadable; then a command that "
    "reads it",
    trials=1000,
    trial=trial,
    seconds=8 * programs.LIMIT,
)
