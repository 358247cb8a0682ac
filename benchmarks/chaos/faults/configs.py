"""Configs with values that no user should give, through the command line, up to the step."""

import re
import signal
import string
import time
import typing
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.chaos import forked, programs
from benchmarks.chaos.attempts import bound_memory
from benchmarks.chaos.fault import CLEAN, HUNG, Fault, Outcome
from distill.bounds import bounds_of
from distill.config.schema import bare, leaves, members_of, options
from distill.evaluate.evaluation import EvaluationConfig
from distill.json_files import read_json

MEMORY_GIB = 6
_SECONDS = 60
_ODD = (
    *("", " ", "none", "None", "null", "true", "False", "0", "-0", "1", "-1", "2", "3", "7", "0.5"),
    *(
        "nan",
        "inf",
        "-inf",
        "1e308",
        "1e-308",
        "-1e308",
        "1e400",
        "5e-324",
        "1e30",
        "0x10",
        "1_000",
    ),
    *("2147483648", "-2147483649", "9223372036854775808", "99999999999999999999999999", "1e5"),
    *("()", "(1,)", "(1, 2)", "(0.1, 0.9)", "[]", "[1", "{}", "{'a': 1}", "('a', 'b')", "((),)"),
    *(
        "é",
        "１２",
        "日本",
        "\u202e",
        "a\nb",
        "a b",
        "'",
        '"',
        "\\",
        "..",
        "/",
        "/dev/null",
        "~nobody",
    ),
    *("$HOME", "%s", "{}", "*", "[", "(", "(?P<", "x" * 300, "x" * 5000, "digits", "train[:0]"),
    *(
        "train[:1]",
        "train[:99999999999]",
        "folder:/",
        "wds:/x",
        "s3://",
        "gs://a",
        "float16",
        "a.b.c",
    ),
)
_NAMES = ("a", "val", "é", "a/b", "x.y", "", " ", "NAME", "..", "test", "train", "1")


def _schemas() -> dict[str, tuple[type, Callable[[Path, Path], list[str]]]]:
    from distill.laws.config import StudyConfig
    from distill.runs.distillation import DistillConfig
    from distill.runs.evaluated import EvaluateConfig
    from distill.runs.pretraining import PretrainConfig
    from distill.runs.storing import StoreTargetsConfig
    from pipelines.finetune import FinetuneConfig

    schemas = {
        "training": PretrainConfig,
        "finetuning": FinetuneConfig,
        "distillation": DistillConfig,
        "store": StoreTargetsConfig,
        "study": StudyConfig,
        "replay": DistillConfig,
        "evaluation": EvaluateConfig,
    }
    return {name: (one, programs.PROGRAMS[name].arguments) for name, one in schemas.items()}


def _with_a_letter_changed(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    letter = random.choice(string.ascii_lowercase + "_.é")
    return random.choice((text[:at] + letter + text[at:], text[:at] + letter + text[at + 1 :]))


def _value(annotation: Any, random: Random, odd: float) -> str:
    """Text for a key: of its kind and odd, near its bounds, a choice of it, or anything."""
    if random.random() < odd:
        return random.choice(_ODD)
    kinds = [one for one in options(annotation) if _is_drawn(one)]
    kind = random.choice(kinds or options(annotation))
    if typing.get_origin(bare(kind)) is typing.Literal:
        text = str(random.choice(typing.get_args(bare(kind))))
        return text if random.random() >= odd else _with_a_letter_changed(text, random)
    if bare(kind) is bool:
        return random.choice(("true", "false"))
    if bare(kind) in (int, float):
        within = bounds_of(kind)
        near: list[Any] = [0, 1, 1, 2, 2, 3, 4, 8, 16, 100]
        near += [] if bare(kind) is int else [0.5, 0.1, 1e-3, 1e-3, 0.9]
        if within is not None:
            ends = [end for end in (within.low, within.high) if abs(end) < 1e300]
            near += [*ends, *(end - 1 for end in ends), *(end + 1 for end in ends)]
        one = random.choice(near)
        return str(int(one) if bare(kind) is int and abs(one) < 1e300 else one)
    return random.choice(_ODD)


def _is_drawn(kind: Any) -> bool:
    """Whether values of a kind are drawn as it is, not at random of all that is odd."""
    return bare(kind) in (bool, int, float) or typing.get_origin(bare(kind)) is typing.Literal


def drawn(schema: type, there: Collection[str], random: Random) -> list[str]:
    """One to three overrides, mostly of keys that a config has.

    Args:
      schema: of the config.
      there: keys that it has.
      random: what draws.
    """
    found, known, odd = [], list(leaves(schema)), random.choice((0.0, 0.1, 0.5))
    near = [
        (path, one)
        for path, _, one in known
        for path in _named_in(path, there)
        if odd or any(map(_is_drawn, options(one)))
    ]
    for _ in range(random.choice((1, 1, 2, 3)) if there else 0):
        if odd < 0.5 or random.random() < 0.6:
            path, annotation = random.choice(near)
        else:
            path, _, annotation = random.choice(known)
            path = ".".join(
                random.choice(_NAMES) if part == "NAME" else part for part in path.split(".")
            )
        if random.random() < 0.06 * odd:
            path = _with_a_letter_changed(path, random)
        found.append(f"--{path}={_value(annotation, random, odd)}")
    evals = next((path for path, *_ in known if path.endswith("evals.NAME.kind")), None)
    if evals and (not there or random.random() < 0.2):
        found += _evaluation(evals.removesuffix(".NAME.kind"), random, odd)
    return found


def _evaluation(evals: str, random: Random, odd: float) -> list[str]:
    """Overrides that ask for an evaluation, of any kind, with up to three keys of its own."""
    member = random.choice(members_of(EvaluationConfig).members)
    known = list(leaves(member, f"{evals}.added."))
    others = [leaf for leaf in known if leaf[1].name != "kind"]
    chosen = random.sample(others, min(random.randrange(4), len(others)))
    kind = next(field.default for _, field, _ in known if field.name == "kind")
    values = [f"--{path}={_value(one, random, odd)}" for path, _, one in chosen]
    return [f"--{evals}.added.kind={kind}", *values]


def _named_in(path: str, there: Collection[str]) -> list[str]:
    """The keys of a config that a path of its schema stands for."""
    pattern = re.compile(re.escape(path).replace("NAME", "[^.]+"))
    return [key for key in there if pattern.fullmatch(key)]


def keys_of(tree: Any, prefix: str = "config") -> Iterator[str]:
    """The keys of a config, as JSON can hold it."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from keys_of(value, f"{prefix}.{key}")
    else:
        yield prefix


def _bounded(stops: bool) -> Callable[[], None]:
    """What bounds a child's memory, and has it end where the step would be compiled."""

    def before() -> None:
        from distill import machine
        from distill.data import needed
        from distill.errors import UserError
        from distill.train import fit, memory, signals

        class AtTheStep(UserError):
            exit_code = 0

        def stop(*_: Any, **__: Any) -> None:
            raise AtTheStep("the step would be compiled now")

        if stops:
            fit.compile_joint_step = stop  # pyright: ignore[reportAttributeAccessIssue]
        signals.StopRequest.after = lambda self, step: "SIGTERM" if step >= 2 else None
        free = machine.free_memory
        for module in (machine, needed, memory):
            vars(module)["free_memory"] = lambda: min(free(), (MEMORY_GIB - 2) * 2**30)
        bound_memory(MEMORY_GIB)

    return before


def _keys(given: Path, name: str) -> list[str]:
    """The keys that a program's config has."""
    config = programs.PROGRAMS[name].reference(given) / "run" / "config.json"
    return [*keys_of(read_json(config))] if config.exists() else []


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Runs a command with overrides that are drawn; one in six goes on for two steps."""
    schemas = _schemas()
    name = random.choice(sorted(schemas))
    schema, arguments = schemas[name]
    overrides, stops = drawn(schema, _keys(given, name), random), random.random() > 1 / 6
    own = directory / "own"
    programs.PROGRAMS[name].begin(given, own)
    log = directory / "log"
    said = f"{name} {'' if stops else 'for two steps '}{' '.join(map(repr, overrides))}"
    body = forked.command([*arguments(given, own), *overrides], _bounded(stops))
    pid, begun = forked.forked(body, log), time.monotonic()
    code = forked.waited(pid, _SECONDS)
    if code is None:
        # What takes long may; what does not end when it is asked to has hung.
        forked.end(pid, signal.SIGTERM)
        code = forked.waited(pid, 2 * _SECONDS)
        if code is None:
            forked.end(pid, signal.SIGKILL)
            forked.waited(pid, _SECONDS)
            return Outcome(HUNG, said, log.read_text(encoding="utf-8", errors="replace")[-1500:])
        if code in (0, 128 + signal.SIGTERM):
            return Outcome(CLEAN, f"{said}: took long")
    output = log.read_text(encoding="utf-8", errors="replace")
    ended = forked.Ended(code, output, time.monotonic() - begun)
    if ended.fault:
        return Outcome(ended.fault, said, ended.last)
    return Outcome(CLEAN, f"{said}: {'refused' if code else 'runs'}")


FAULT = Fault(
    name="configs",
    tries="one to three keys of a config with values that are extreme, huge, negative, not a "
    "number, of another type, misspelt, empty or in other alphabets, through the command line, up "
    "to where the step is compiled or for two steps",
    trials=2000,
    trial=trial,
    seconds=12 * _SECONDS,
)
