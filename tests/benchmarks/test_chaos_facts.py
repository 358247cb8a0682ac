"""What a campaign of faults compares is what counts, and it damages what is read."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from benchmarks.chaos.facts import differing, facts_of
from benchmarks.chaos.faults.damages import drawn
from distill.json_files import write_json


def test_what_a_run_paused_for_is_a_timing(tmp_path):
    for name, seconds in (("a", 0.033), ("b", 0.044)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "progress.json", {"step": 6, "pauses": {"eval": seconds}})
    assert not differing(facts_of(tmp_path / "a"), facts_of(tmp_path / "b"))


def test_a_store_is_its_records(tmp_path):
    """A bit in the padding between records is no other result, and one in a record is."""
    file = tmp_path / "targets.array_record"
    writer = ArrayRecordWriter(str(file), "group_size:1,uncompressed")
    rng = np.random.default_rng(0)
    records = [rng.bytes(100) for _ in range(3)]
    for record in records:
        writer.write(record)
    writer.close()
    before, content = facts_of(tmp_path), file.read_bytes()

    def flipped(at):
        changed = bytearray(content)
        changed[at] ^= 1
        file.write_bytes(bytes(changed))
        return differing(facts_of(tmp_path), before)

    padding = content.rindex(b"\0" * 64)
    assert not flipped(padding + 32)
    assert flipped(content.index(records[1]) + 50)
    file.write_bytes(content[:-1])
    assert differing(facts_of(tmp_path), before)


def test_kinds_of_files_are_damaged_alike():
    run = Path("/runs/teacher")
    names = [f"checkpoints/{step}/params/d/{n:032x}" for step in (2, 4, 6) for n in range(50)]
    files = [run / name for name in (*names, "config.json", "data.json")]
    random = Random(0)
    found = Counter(drawn(files, random).parent.parent.parent.name for _ in range(400))
    # Older checkpoints together as often as the newest, and as each file that is one of its kind.
    assert abs(found["2"] + found["4"] - 100) < 30 and abs(found["6"] - 100) < 30


def test_a_card_says_the_same_on_another_day(tmp_path):
    said = []
    for day in ("2026-11-29", "2026-11-30"):
        (tmp_path / "README.md").write_text(f"Written on {day}.")
        said.append(facts_of(tmp_path))
    assert said[0] == said[1]
    (tmp_path / "README.md").write_text("Written at 2026-11-30.")
    assert facts_of(tmp_path) != said[0]
