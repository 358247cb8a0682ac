"""Runs of two processes, of which one or both are killed, and which are started again."""

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.chaos import facts, forked, moments, programs
from benchmarks.chaos.fault import CLEAN, HUNG, LOST, TRACEBACK, Fault, Outcome

PROCESSES, DEVICES = 2, 4
_LIMIT = 300
_KEYS = {
    "model.width": "16",
    "model.mlp_dim": "32",
    "model.heads": "2",
    "mesh.data": "2",
    "mesh.fsdp": "2",
    "mesh.tensor": "2",
    "train.total_steps": "8",
    "train.eval_every": "1",
    "train.batch_size": "16",
}


def _started(own: Path, before: Callable[[], None] | None = None) -> list[int]:
    """Starts the run's processes; `before` is called in the first one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = programs.TEACHER | _KEYS
    found = []
    for number in range(PROCESSES):
        together = [
            f"--coordinator=127.0.0.1:{port}",
            f"--processes={PROCESSES}",
            f"--process={number}",
            "--lost_after=8",
        ]
        arguments = ["pretrain", *programs.flags("pretrain/digits", own / "run", settings)]

        def begin(first: bool = number == 0) -> None:
            _devices(DEVICES)
            if before and first:
                before()

        body = forked.command([*arguments, *together], begin)
        found.append(forked.forked(body, own.with_name(f"{own.name}.{number}.log")))
    return found


def _devices(count: int) -> None:
    import jax

    jax.config.update("jax_num_cpu_devices", count)


def _ended(pids: list[int]) -> list[int | None]:
    """How all processes ended; those that do not in time are killed, and None."""
    end = time.monotonic() + _LIMIT
    codes = [forked.waited(pid, max(end - time.monotonic(), 0)) for pid in pids]
    for pid, code in zip(pids, codes, strict=True):
        if code is None:
            forked.end(pid, signal.SIGKILL)
            forked.waited(pid, 60)
    return codes


def _told(own: Path) -> str:
    logs = (own.with_name(f"{own.name}.{number}.log") for number in range(PROCESSES))
    return "\n".join(
        log.read_text(encoding="utf-8", errors="replace")[-1000:] for log in logs if log.exists()
    )


def _noted(own: Path) -> dict[str, object]:
    """The facts of the run, as a process with all devices reads them."""
    file = own.with_name(f"{own.name}.facts.json")

    def body() -> None:
        _devices(PROCESSES * DEVICES)
        file.write_text(json.dumps(facts.facts_of(own)), encoding="utf-8")

    programs.needed(forked.run(body, own.with_name(f"{own.name}.log"), seconds=120))
    return programs.facts_beside(own)


def prepare(given: Path) -> None:
    """Runs once without a kill."""
    own = given / "whole"
    own.mkdir()
    begun = time.monotonic()
    codes = _ended(_started(own, moments.record(own, given / "moments.jsonl")))
    if any(codes):
        raise RuntimeError(f"processes that met no fault ended with {codes}: {_told(own)}")
    (given / "seconds.json").write_text(json.dumps(time.monotonic() - begun), encoding="utf-8")
    _noted(own)


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Kills one or both processes once or twice, and starts them again each time."""
    own, tried = directory / "own", []
    own.mkdir()
    usual = json.loads((given / "seconds.json").read_text(encoding="utf-8"))
    kinds = moments.recorded(given / "moments.jsonl")
    for _ in range(random.choice((1, 1, 2))):
        whom = random.choice(((0,), (1,), (0, 1)))
        if whom == (0,) and random.random() < 0.6:
            kind, number = moments.drawn(kinds, random)
            past = random.random() < 0.5
            tried.append(f"the first {'after' if past else 'before'} {kind} {number}")
            pids = _started(own, moments.kill_at(own, kind, number, past))
        else:
            after = random.uniform(0.1, 1.1) * usual
            tried.append(f"{' and '.join(map(str, whom))} after {after:.1f} s")
            pids = _started(own)
            time.sleep(after)
            for number in whom:
                forked.end(pids[number], signal.SIGKILL)
        codes = _ended(pids)
        if None in codes:
            return Outcome(HUNG, f"killed {', '.join(tried)}", f"{codes}: {_told(own)}")
    said = f"killed {', '.join(tried)}"
    codes = _ended(_started(own))
    if None in codes:
        return Outcome(HUNG, said, f"{codes}: {_told(own)}")
    if any(codes):
        told = _told(own)
        came = TRACEBACK if "Traceback" in told else LOST
        return Outcome(came, said, f"{codes}: {told}")
    different = facts.differing(_noted(own), programs.facts_beside(given / "whole"))
    return Outcome(LOST, said, "\n".join(different)) if different else Outcome(CLEAN, said)


FAULT = Fault(
    name="processes",
    tries="two processes of four devices each that evaluate at every step, of which one or both "
    "are killed once or twice; then the same run to its end",
    trials=50,
    trial=trial,
    prepare=prepare,
    seconds=4 * _LIMIT,
)
