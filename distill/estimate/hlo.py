"""Reads a scheduled XLA program: instructions in the order in which they run."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

_BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4,
    "s64": 8, "u64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8,
    "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+[0-9]*(?:e\dm\d(?:fn)?)?)\[([0-9,]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = ")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: str
    """Of the result, as text; a tuple's in parentheses."""
    operands: tuple[str, ...]
    text: str
    """What follows the operands: attributes, metadata, the compiler's notes; a constant's value."""

    def attribute(self, name: str) -> str | None:
        """The computation named by an attribute such as `calls=%name` or `body=%name`."""
        found = re.search(rf"\b{name}=%([\w.\-]+)", self.text)
        return found and found.group(1)

    def named(self, name: str) -> str:
        """As `attribute`, of an instruction that cannot be without it.

        Raises:
          ValueError: if it is.
        """
        if (found := self.attribute(name)) is None:
            raise ValueError(f"{self.name} names no computation as its {name}")
        return found

    @property
    def cycles(self) -> int | None:
        """The compiler's own estimate, where it made one."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return int(found.group(1)) if found else None

    @property
    def bytes(self) -> float:
        """Bytes of the result, without the padding of its layout."""
        return shape_bytes(self.shape)


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions in the order of the schedule."""

    name: str
    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def by_name(self) -> Mapping[str, Instruction]:
        """The instructions by name."""
        return {instruction.name: instruction for instruction in self.instructions}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled module."""

    computations: Mapping[str, Computation]
    entry: Computation
    frames: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """By number, the Python functions that an instruction was traced in, innermost first."""

    def traced_in(self, instruction: Instruction) -> tuple[str, ...]:
        """The Python functions that it was traced in, innermost first; none where nothing says."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.text)
        return self.frames.get(int(found.group(1)), ()) if found else ()

    def trip_count(self, loop: Instruction) -> int | None:
        """How often a `while` runs: the constant that its condition compares a counter to.

        JAX's scans have one. None for a loop that depends on its data, such as one that draws
        random numbers until they are acceptable.
        """
        condition = self.computations[loop.named("condition")]
        called = [name for i in condition.instructions if (name := i.attribute("calls"))]
        instructions = [
            *condition.instructions,
            *(i for name in called for i in self.computations[name].instructions),
        ]
        if any("direction=LT" in instruction.text for instruction in instructions):
            limits = [
                int(i.text)
                for i in instructions
                if i.opcode == "constant" and re.fullmatch(r"-?\d+", i.text)
            ]
            if len(limits) == 1:
                return limits[0]
        return None


def shape_bytes(shape: str) -> float:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(
        _BYTES.get(dtype, 4) * math.prod(map(int, filter(None, dims.split(","))))
        for dtype, dims in _ARRAY.findall(shape)
    )


def dimensions(shape: str) -> list[int]:
    """The sizes of an array."""
    found = _ARRAY.search(shape)
    return [int(size) for size in found.group(2).split(",") if size] if found else []


def elements(shape: str) -> list[str]:
    """The shapes in a tuple, which may be tuples themselves; of an array, itself."""
    if not shape.startswith("("):
        return [shape]
    parts, depth = [""], 0
    for character in re.sub(r"/\*.*?\*/", "", shape)[1:-1]:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def parse(text: str) -> Program:
    """Parses `compiled.as_text()`.

    Raises:
      ValueError: if the text holds no scheduled program.
    """
    if "is_scheduled=true" not in text[:10_000]:
        raise ValueError("the text is not a scheduled program; pass compiled.as_text()")
    computations: dict[str, Computation] = {}
    entry, name, instructions = None, "", []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name, instructions = header.group(2), []
            entry = name if header.group(1) else entry
        elif line.startswith("}"):
            computations[name] = Computation(name, tuple(instructions))
        elif found := _INSTRUCTION.match(line):
            instructions.append(_instruction(found.group(2), line[found.end() :]))
    if entry is None:
        raise ValueError("the text has no entry computation")
    return Program(computations, computations[entry], _frames(text))


def _frames(text: str) -> dict[int, tuple[str, ...]]:
    """The tables before the first computation: functions, places in them, and who called whom."""
    names = dict(re.findall(r'^(\d+) "(.*)"$', _table(text, "FunctionNames"), re.MULTILINE))
    places = dict(
        re.findall(
            r"^(\d+) \{.*?function_name_id=(\d+)", _table(text, "FileLocations"), re.MULTILINE
        )
    )
    calls = {
        number: (place, parent)
        for number, place, parent in re.findall(
            r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?",
            _table(text, "StackFrames"),
            re.MULTILINE,
        )
    }
    found = {}
    for number in calls:
        functions, frame, seen = [], number, set()
        while frame in calls and frame not in seen:
            seen.add(frame)
            place, parent = calls[frame]
            # Counted from 1, where 1 stands for none.
            frame = str(int(parent or 1) - 1)
            functions.append(names.get(places.get(place, ""), ""))
        found[int(number)] = tuple(functions)
    return found


def _table(text: str, title: str) -> str:
    """The lines under a title, as far as the next empty one."""
    found = re.search(rf"^{title}\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    arguments = rest[opening + 1 : closing]
    return Instruction(
        name=name,
        opcode=rest[:opening],
        shape=shape,
        operands=tuple(re.findall(r"%([\w.\-]+)", arguments)),
        # A constant's value stands where other instructions have operands.
        text=arguments if rest.startswith("constant(") else rest[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """Position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")


def replica_groups(text: str, devices: int) -> Sequence[Sequence[int]]:
    """The groups of a collective, in any of the ways in which XLA writes them.

    Raises:
      ValueError: if there are none.
    """
    if "replica_groups={}" in text:
        return [list(range(devices))]
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
        sizes = {k: int(v) for k, v in re.findall(r"'(\w+)'=(\d+)", found.group(1))}
        return _mesh_groups(sizes, re.findall(r"'(\w+)'", found.group(2)))
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        return _iota_groups(*found.groups())
    if found := re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", text):
        return [[int(i) for i in g.split(",")] for g in re.findall(r"\{([\d,]+)\}", found.group(1))]
    raise ValueError(f"no replica groups in {text[:200]!r}")


def _mesh_groups(sizes: Mapping[str, int], axes: Sequence[str]) -> list[list[int]]:
    """Groups along `axes` of a mesh whose devices are numbered in row-major order."""
    devices = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    names = list(sizes)
    across = [names.index(axis) for axis in axes]
    rest = [i for i in range(len(names)) if i not in across]
    group = math.prod(sizes[axis] for axis in axes)
    return devices.transpose(*rest, *across).reshape(-1, group).tolist()


def _iota_groups(shape: str, dims: str, order: str | None) -> list[list[int]]:
    """Such as [2,4]<=[4,2]T(1,0): 0…7 as 4 × 2, transposed, and cut into 2 groups of 4."""
    numbers = [tuple(map(int, part.split(","))) for part in (shape, dims)]
    devices = np.arange(math.prod(numbers[1])).reshape(numbers[1])
    if order is not None:
        devices = devices.transpose(tuple(map(int, order.split(","))))
    return devices.reshape(numbers[0]).tolist()


def source_target_pairs(text: str) -> list[tuple[int, int]]:
    """Who sends to whom in a collective permute.

    Raises:
      ValueError: if the text has no pairs.
    """
    found = re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", text)
    if not found:
        raise ValueError(f"no source-target pairs in {text[:200]!r}")
    return [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", found.group(1))]
