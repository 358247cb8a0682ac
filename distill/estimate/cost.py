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
import functools
import math
import re
from collections import Counter
from collections.abc import Sequence

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
from distill.parallel.chips import Chip

# Seconds for one message to reach the next chip, however small.
HOP_LATENCY = 1e-6
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


def estimate(
    program: Program,
    chip: Chip,
    coordinates: np.ndarray,
    shape: Sequence[int],
    rings: Sequence[bool],
) -> Cost:
    """What one run of `program` takes.

    Args:
      program: for one chip, as all of them run it.
      chip: what runs it.
      coordinates: [devices, dimensions], where each device of the program stands in the torus.
      shape: chips along each dimension.
      rings: whether the ends of each dimension are connected.
    """
    return _Walk(program, chip, coordinates[:, : len(shape)], tuple(shape), tuple(rings)).cost


class _Walk:
    """One pass over a program."""

    def __init__(self, program, chip, coordinates, shape, rings):
        self.program = program
        self.chip = chip
        self.torus = Torus(coordinates, shape, rings, chip.link_bandwidth)
        self.cost = self._computation(program.entry)

    def _computation(self, computation: Computation) -> Cost:
        line = _Timeline()
        for instruction in computation.instructions:
            self._step(instruction, computation, line)
        return line.cost

    def _step(self, instruction: Instruction, computation: Computation, line: "_Timeline") -> None:
        opcode = instruction.opcode
        if opcode == "while":
            body = self._computation(self.program.computations[instruction.named("body")])
            line.run_all(body * (self.program.trip_count(instruction) or 1))
        elif opcode in ("call", "conditional"):
            costs = [self._computation(self.program.computations[n]) for n in _called(instruction)]
            if opcode == "conditional":
                costs = [max(costs, key=lambda cost: cost.seconds)]
            for cost in costs:
                line.run_all(cost)
        elif instruction.name.startswith("async-collective-start"):
            # On v5e XLA writes an asynchronous collective as three fusions, each of which names it:
            # a start, the product that runs meanwhile, and a done.
            line.start(instruction.name, "links", self._collective(instruction) or 0.0, True)
        elif "async_collective_fusion" in (instruction.attribute("calls") or ""):
            line.compute(self._compute(instruction, computation))
        elif opcode.endswith("-start"):
            line.start(instruction.name, *self._background(instruction, computation))
        elif opcode.endswith("-done") or instruction.name.startswith("async-collective-done"):
            line.finish(line.origin(instruction, computation))
        elif (seconds := self._collective(instruction)) is not None:
            line.communicate(seconds)
        else:
            line.compute(self._compute(instruction, computation))

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
        opcode = instruction.opcode.removesuffix("-start")
        if opcode == "fusion" or opcode == "async":
            inner = self.program.computations[instruction.named("calls")]
            found = [i for i in inner.instructions if i.opcode in _COLLECTIVES]
            if not found:
                return None
            # XLA for TPU writes a reduce-scatter as an all-reduce and a slice in one fusion.
            scatters = inner.instructions[-1].bytes < sum(i.bytes for i in found)
            seconds = 0.0
            for one in found:
                opcode = "reduce-scatter" if scatters and one.opcode == "all-reduce" else one.opcode
                seconds += self._collective_seconds(opcode, one, instruction.text)
            return seconds
        if opcode not in _COLLECTIVES:
            return None
        return self._collective_seconds(opcode, instruction, instruction.text)

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
        self.cost = Cost()
        self._free: Counter[str] = Counter()
        self._pending: dict[str, tuple[float, float, bool]] = {}

    def run_all(self, cost: Cost) -> None:
        self.now += cost.seconds
        self.cost += cost

    def compute(self, seconds: float) -> None:
        self.run_all(Cost(compute=seconds))

    def communicate(self, seconds: float) -> None:
        self.run_all(Cost(exposed=seconds))

    def start(self, name: str, resources: str | tuple[str, ...], seconds: float, links: bool):
        """Begins when its resources are free."""
        resources = (resources,) if isinstance(resources, str) else resources
        end = max(self.now, *(self._free[r] for r in resources)) + seconds
        self._free.update({r: end - self._free[r] for r in resources})
        self._pending[name] = (end, seconds, links)

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
        end, seconds, links = self._pending.pop(name)
        waited = max(0.0, end - self.now)
        if links:
            exposed = min(waited, seconds)
            self.run_all(Cost(compute=waited - exposed, hidden=seconds - exposed, exposed=exposed))
        else:
            self.run_all(Cost(compute=waited))


class Torus:
    """Chips at integer coordinates, linked to their neighbours in every dimension."""

    def __init__(self, coordinates, shape, rings, link_bandwidth):
        self.devices = len(coordinates)
        self._at = coordinates
        self._in_one_place = max(Counter(map(tuple, coordinates.tolist())).values())
        self._shape = shape
        self._rings = rings
        self._bandwidth = link_bandwidth

    def collective_seconds(
        self, opcode: str, group: tuple[int, ...], whole: float, notes: str = ""
    ):
        """Seconds of a collective over one of its equal groups.

        Data travel around rings: (n − 1)/n of all bytes for a gather or a scatter, twice that for
        a reduction that everybody receives, and a quarter of n/2 ways for an exchange of everything
        (Hamiltonian rings; "How to scale your model", ch. 3). The compiler's notes tell whether a
        ring runs both ways and whether there is one for every dimension.

        Args:
          opcode: XLA's.
          group: device numbers of one group.
          whole: bytes of the whole array, gathered or before it is scattered.
          notes: text with the compiler's choice of algorithm.
        """
        n = len(group)
        if n == 1:
            return 0.0
        share = {
            "all-gather": (n - 1) / n,
            "reduce-scatter": (n - 1) / n,
            "all-reduce": 2 * (n - 1) / n,
            "all-to-all": n / 4,
        }[opcode]
        steps = n - 1 if opcode != "all-reduce" else 2 * (n - 1)
        rings, sharing = self._rings_of(group, notes)
        # Devices of a chip that are in groups of their own send through the same links.
        places = len(np.unique(self._at[list(group)], axis=0))
        sharing *= self._in_one_place / (n / places)
        # One ring runs both ways, so each way carries half.
        seconds = share * whole * sharing / (2 * rings * self._bandwidth)
        if "UniDirection" in notes:
            seconds *= 2
        return seconds + steps / (2 * rings) * HOP_LATENCY

    def _rings_of(self, group: tuple[int, ...], notes: str) -> tuple[int, float]:
        """How many rings a group can use at a time, and how many groups share their links."""
        at = self._at[list(group)]
        values = [np.unique(at[:, d]) for d in range(at.shape[1])]
        spanned = [d for d, v in enumerate(values) if len(v) > 1]
        if not spanned:
            return 1, 1.0
        sharing = max(float(np.diff(values[d]).min()) for d in spanned)
        if len(spanned) == 1:
            d = spanned[0]
            closed = self._rings[d] and len(values[d]) * sharing == self._shape[d]
            # There and back on a line: each way is used twice.
            return 1, sharing if closed else 2 * sharing
        per_dimension = "ND" in notes and "UniDirectionND" not in notes
        return (len(spanned) if per_dimension else 1), sharing

    @functools.cache  # noqa: B019 - a torus lives as long as one estimate
    def _traffic(self, pairs: tuple[tuple[int, int], ...]) -> tuple[int, int, frozenset[str]]:
        """The most pairs on one link, the most hops of a pair, and the directions in use."""
        load, hops, directions = Counter(), 0, set()
        for source, target in pairs:
            path = self._route(tuple(self._at[source]), tuple(self._at[target]))
            load.update(path)
            hops = max(hops, len(path))
            directions |= {f"link {dim}{sign:+d}" for _, dim, sign in path}
        return max(load.values(), default=0), hops, frozenset(directions)

    def _route(self, source, target):
        """Links from chip to chip, one dimension after another, each the shorter way."""
        at, path = list(source), []
        for dim, size in enumerate(self._shape):
            ahead = int(target[dim] - at[dim])
            if self._rings[dim] and abs(ahead) > size / 2:
                ahead -= int(math.copysign(size, ahead))
            sign = 1 if ahead > 0 else -1
            for _ in range(abs(ahead)):
                path.append((tuple(map(int, at)), dim, sign))
                at[dim] = (at[dim] + sign) % size
        return path

    def directions(self, pairs: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
        """The links that a permute uses, such as "link 0+1": dimension 0, upwards."""
        return tuple(sorted(self._traffic(pairs)[2])) or ("links",)

    def permute_seconds(self, pairs: tuple[tuple[int, int], ...], sent: float) -> float:
        """Seconds until everybody has sent so many bytes to its partner."""
        load, hops, _ = self._traffic(pairs)
        return load * sent / self._bandwidth + hops * HOP_LATENCY


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
    if opcode == "reduce-scatter" or len(parts) < 2:
        return shape_bytes(parts[0])
    return shape_bytes(parts[1])


def _stated_flops(instruction: Instruction) -> float:
    """What a kernel says of itself (Pallas' cost estimate)."""
    found = re.search(r'"flops":"?(\d+)', instruction.text)
    return float(found.group(1)) if found else 0.0
