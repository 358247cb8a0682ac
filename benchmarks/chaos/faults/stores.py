"""Stored targets whose files are no longer what they were, read whole."""

import shutil
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.chaos.attempts import attempt
from benchmarks.chaos.fault import Fault, Outcome
from benchmarks.chaos.mutations import flipped, mutated
from distill.data import Contents, Store, StoreWriter

_CONTENTS = Contents(
    examples=64,
    batch_size=8,
    examples_per_file=32,
    arrays={"logits/teacher": ("float32", (10,)), "scale": ("float16", ())},
    about={"views": {"classes": ["a"]}},
)


def prepare(given: Path) -> None:
    """Writes a store."""
    rng = np.random.default_rng(0)
    records = np.zeros(_CONTENTS.examples, _CONTENTS.record)
    records["index"] = rng.permutation(_CONTENTS.examples)
    records["logits/teacher"] = rng.standard_normal((_CONTENTS.examples, 10))
    (given / "store").mkdir()
    writer = StoreWriter(given / "store", _CONTENTS)
    for start in range(0, _CONTENTS.examples, _CONTENTS.batch_size):
        writer.write(records[start : start + _CONTENTS.batch_size])
    writer.close()


def content_of(path: Path) -> bytes:
    """All records of a store, one after the other."""
    store = Store(path)
    return b"".join(store.read(number).tobytes() for number in range(len(store)))


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Flips a bit of a file, or mutates it, and reads the store."""
    store = directory / "store"
    shutil.copytree(given / "store", store)
    file = random.choice(sorted(one for one in store.iterdir() if one.stat().st_size))
    change = random.choice((flipped, mutated))
    file.write_bytes(change(file.read_bytes(), random))
    expected = content_of(given / "store")
    return attempt(f"{file.name} {change.__name__}", lambda: content_of(store) == expected)


FAULT = Fault(
    name="stores",
    tries="stored targets with one flipped bit or the same changes, read whole; other records than "
    "those that were written are silent",
    trials=300,
    trial=trial,
    prepare=prepare,
    seconds=60,
    commands=False,
    together=50,
)
