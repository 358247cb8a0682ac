"""What a scheduled TPU program costs: a model, and every figure from it an estimate.

A device runs its schedule in order. Arithmetic takes the cycles that the compiler estimates; what
moves takes bytes over bandwidth. A synchronous collective stops everything until it is done. An
asynchronous one, split into a start and a done, runs on the links meanwhile: the time between
counts as hidden, and what the done still has to wait for as exposed. Loops cost their body times
their iterations, or once where these depend on the data.

Left out: skew between devices, contention of different collectives for the same link, contention
for HBM between arithmetic and copies in the background, and the host.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from distill.estimate import hlo
from distill.estimate.hlo import (
    Computation,
    Instruction,
    Program,
    replica_groups,
    shape_bytes,
    source_target_pairs,
)
from distill.estimate.torus import Torus
from distill.parallel.chips import Chip

# Bytes per second between a chip and its host's memory: a quarter of a host's PCIe 4.0 × 16, which
# four chips share. An assumption, and felt only where activations are offloaded.
HOST_BANDWIDTH = 8e9

_COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COPIES = ("copy", "slice", "dynamic-slice", "dynamic-update-slice")
# Instructions that only name what is there, or whose few bytes live in scalar memory.
_FREE = frozenset(
    "parameter constant get-tuple-element tuple bitcast partition-id replica-id after-all iota "
    "opt-barrier domain add-dependency".split()
)
_HOST_MEMORY = re.compile(r"S\(5\)")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of one device; an estimate."""

    compute: float = 0.0
    """In arithmetic, and in copies that arithmetic waits for."""
    hidden: float = 0.0
    """Of communication, while arithmetic goes on."""
    exposed: float = 0.0
    """Of communication, while nothing else does."""

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.compute + self.exposed

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.compute + other.compute, self.hidden + other.hidden, self.exposed + other.exposed
        )

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.compute * times, self.hidden * times, self.exposed * times)


class Spent(NamedTuple):
    """What an instruction takes of one run of a program, all its turns in loops together."""

    instruction: Instruction
    """Of an asynchronous one, its start."""
    cost: Cost
    times: float = 1
    """How often it runs."""


def estimate(
    program: Program,
    chip: Chip,
    coordinates: np.ndarray,
    shape: Sequence[int],
    rings: Sequence[bool],
) -> Cost:
    """What one run of `program` takes; arguments as of `spend`."""
    return cost_of(spend(program, chip, coordinates, shape, rings))


def cost_of(spent: Iterable[Spent]) -> Cost:
    """All of it."""
    return sum((one.cost for one in spent), Cost())


def spend(
    program: Program,
    chip: Chip,
    coordinates: np.ndarray,
    shape: Sequence[int],
    rings: Sequence[bool],
) -> list[Spent]:
    """What one run of `program` takes, instruction by instruction.

    Args:
      program: for one chip, as all of them run it.
      chip: what runs it.
      coordinates: [devices, dimensions], where each device of the program stands in the torus.
      shape: chips along each dimension.
      rings: whether the ends of each dimension are connected.
    """
    walk = _Walk(program, chip, coordinates[:, : len(shape)], tuple(shape), tuple(rings))
    return walk.run(program.entry)


class _Walk:
    """One pass over a program."""

    def __init__(self, program, chip, coordinates, shape, rings):
        self.program = program
        self.chip = chip
        self.torus = Torus(coordinates, shape, rings, chip.link_bandwidth)

    def run(self, computation: Computation) -> list[Spent]:
        """What its instructions take."""
        line = _Timeline()
        for instruction in computation.instructions:
            self._step(instruction, computation, line)
        return line.spent

    def _step(self, instruction: Instruction, computation: Computation, line: "_Timeline") -> None:
        opcode = instruction.opcode
        if opcode == "while":
            body = self.run(self.program.computations[instruction.named("body")])
            line.run_all(body, self.program.trip_count(instruction) or 1)
        elif opcode in ("call", "conditional"):
            called = [self.run(self.program.computations[n]) for n in _called(instruction)]
            if opcode == "conditional":
                called = [max(called, key=lambda spent: cost_of(spent).seconds)]
            for spent in called:
                line.run_all(spent)
        elif instruction.name.startswith("async-collective-start"):
            # On v5e XLA writes an asynchronous collective as three fusions, each of which names it:
            # a start, the product that runs meanwhile, and a done.
            line.start(instruction, "links", self._collective(instruction) or 0.0, True)
        elif "async_collective_fusion" in (instruction.attribute("calls") or ""):
            line.spend(instruction, Cost(compute=self._compute(instruction, computation)))
        elif opcode.endswith("-start"):
            line.start(instruction, *self._background(instruction, computation))
        elif opcode.endswith("-done") or instruction.name.startswith("async-collective-done"):
            line.finish(line.origin(instruction, computation))
        elif (seconds := self._collective(instruction)) is not None:
            line.spend(instruction, Cost(exposed=seconds))
        else:
            line.spend(instruction, Cost(compute=self._compute(instruction, computation)))

    def _background(self, instruction: Instruction, computation: Computation):
        """What an asynchronous instruction occupies, its seconds, and whether it communicates."""
        opcode = instruction.opcode.removesuffix("-start")
        if opcode in _COPIES:
            to_host = _HOST_MEMORY.search(instruction.shape) is not None
            moved = _moved(instruction)
            return (
                "host" if to_host else "hbm",
                moved / (HOST_BANDWIDTH if to_host else self.chip.hbm_bandwidth),
                to_host,
            )
        seconds = self._collective(instruction)
        if seconds is None:
            # A wrapped computation: arithmetic in the background, which nothing here overlaps.
            return "compute", self._compute(instruction, computation), False
        links = "links"
        if opcode == "collective-permute":
            links = self.torus.directions(tuple(source_target_pairs(instruction.text)))
        return links, seconds, True

    def _collective(self, instruction: Instruction) -> float | None:
        """Seconds of a collective, also of one within a fusion; None for anything else."""
        found = collectives(self.program, instruction)
        if not found:
            return None
        return sum(self._collective_seconds(opcode, one, instruction.text) for opcode, one in found)

    def _collective_seconds(self, opcode: str, instruction: Instruction, notes: str) -> float:
        if opcode == "collective-permute":
            pairs = tuple(source_target_pairs(instruction.text))
            return self.torus.permute_seconds(pairs, _moved(instruction))
        group = tuple(replica_groups(instruction.text, self.torus.devices)[0])
        whole = _moved(instruction)
        if instruction.opcode == "reduce-scatter":
            whole *= len(group)
        return self.torus.collective_seconds(opcode, group, whole, notes)

    def _compute(self, instruction: Instruction, computation: Computation) -> float:
        if instruction.opcode in _FREE:
            return 0.0
        if instruction.cycles is not None:
            return instruction.cycles / self.chip.clock_hz
        if instruction.opcode == "custom-call" and "tpu_custom_call" not in instruction.text:
            return 0.0
        read = sum(
            computation.by_name[name].bytes
            for name in instruction.operands
            if name in computation.by_name
        )
        memory = (read + instruction.bytes) / self.chip.hbm_bandwidth
        return max(memory, _stated_flops(instruction) / self.chip.peak_flops)


class _Timeline:
    """Time passing on one device."""

    def __init__(self):
        self.now = 0.0
        self.spent: list[Spent] = []
        self._free: Counter[str] = Counter()
        self._pending: dict[str, tuple[Instruction, float, float, bool]] = {}

    def run_all(self, spent: Iterable[Spent], times: float = 1) -> None:
        for one in spent:
            self.spend(one.instruction, one.cost * times, one.times * times)

    def spend(self, instruction: Instruction, cost: Cost, times: float = 1) -> None:
        self.now += cost.seconds
        if cost != Cost():
            self.spent.append(Spent(instruction, cost, times))

    def start(
        self,
        instruction: Instruction,
        resources: str | tuple[str, ...],
        seconds: float,
        links: bool,
    ):
        """Begins when its resources are free."""
        resources = (resources,) if isinstance(resources, str) else resources
        end = max(self.now, *(self._free[r] for r in resources)) + seconds
        self._free.update({r: end - self._free[r] for r in resources})
        self._pending[instruction.name] = (instruction, end, seconds, links)

    def origin(self, done: Instruction, computation: Computation) -> str:
        """The start that a done belongs to, through whatever hands its result on."""
        names, seen = list(done.operands), set()
        while names:
            name = names.pop()
            if name in self._pending:
                return name
            if name not in seen and name in computation.by_name:
                seen.add(name)
                names.extend(computation.by_name[name].operands)
        return ""

    def finish(self, name: str) -> None:
        """Waits until it is over."""
        if name not in self._pending:
            return
        start, end, seconds, links = self._pending.pop(name)
        waited = max(0.0, end - self.now)
        exposed = min(waited, seconds) if links else 0.0
        hidden = seconds - exposed if links else 0.0
        self.spend(start, Cost(compute=waited - exposed, hidden=hidden, exposed=exposed))


def collectives(program: Program, instruction: Instruction) -> list[tuple[str, Instruction]]:
    """The collectives that an instruction is or holds, each with XLA's name for what it does."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _COLLECTIVES:
        return [(opcode, instruction)]
    if opcode not in ("fusion", "async"):
        return []
    inner = program.computations[instruction.named("calls")].instructions
    found = [one for one in inner if one.opcode in _COLLECTIVES]
    # XLA for TPU writes a reduce-scatter as an all-reduce and a slice in one fusion.
    scatters = bool(found) and inner[-1].bytes < sum(one.bytes for one in found)
    return [
        ("reduce-scatter" if scatters and one.opcode == "all-reduce" else one.opcode, one)
        for one in found
    ]


def _called(instruction: Instruction) -> list[str]:
    names = re.findall(
        r"(?:to_apply|calls|true_computation|false_computation)=%([\w.\-]+)", instruction.text
    )
    branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.text)
    return names + (re.findall(r"%([\w.\-]+)", branches.group(1)) if branches else [])


def _moved(instruction: Instruction) -> float:
    """Bytes that a collective or a copy moves; the result of a start names its operands too."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode == instruction.opcode or opcode == "all-reduce":
        return instruction.bytes
    parts = hlo.elements(instruction.shape)
    if opcode == "dynamic-update-slice":
        # Its operands first: the whole, which stays where it is, and what is written into it.
        return shape_bytes(hlo.elements(parts[0])[1])
    if opcode == "reduce-scatter" or len(parts) < 2:
        return shape_bytes(parts[0])
    return shape_bytes(parts[1])


def _stated_flops(instruction: Instruction) -> float:
    """What a kernel says of itself (Pallas' cost estimate)."""
    found = re.search(r'"flops":"?(\d+)', instruction.text)
    return float(found.group(1)) if found else 0.0
