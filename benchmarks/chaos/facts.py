"""What of a directory must come out the same, whatever happened on the way."""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

# Wall-clock measurements: the only figures that may differ between two equal runs.
_TIMINGS = frozenset(
    "train/images_per_second train/data_wait images_per_second seconds first_step_seconds "
    "training_seconds milliseconds written bytes time pauses".split()
)
# What is for people, says when it was written, or whose it is.
_FREE = re.compile(
    r"train\.log|report\.html|events\.out\.tfevents.*|\.lock|claim\.json|checksums\.json|MODEL_CARD\.md|examples\.json"
)
_LEFT = re.compile(r"tmp|temp|\.export|partial|\.part\b|\.begun", re.IGNORECASE)
_DAY = re.compile(rb"\d{4}-\d{2}-\d{2}")
_VERSION = re.compile(r"(\bexport(?:/[a-z_0-9]+)?)/\d+/")
_CHECKPOINTS = ("checkpoints", "best")


def facts_of(root: Path, part: str = "") -> dict[str, Any]:
    """What a directory holds, as JSON can say it; arrays as checksums of their values.

    Checkpoints are read as they are meant to be, so that two that were written differently and say
    the same are the same. `left` has temporary files.

    Args:
      root: the directory, whose path in files does not count.
      part: a file or directory in it that is looked at alone.
    """
    found: dict[str, Any] = {"left": []}
    if part and (root / part).is_file():
        return {part: json.loads(json.dumps(_file(root / part, root)))}
    for folder, folders, names in os.walk(root / part):
        here = Path(folder)
        inside = here.relative_to(root)
        if here.name in _CHECKPOINTS:
            for one in sorted(folders):
                if one.isdecimal():
                    try:
                        found[f"{inside}/{one}"] = _checkpoint(here / one)
                    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                        found[f"{inside}/{one}"] = f"damaged: {error}"
                else:
                    found["left"].append(f"{inside}/{one}")
            folders.clear()
            continue
        folders[:] = sorted(one for one in folders if one != "damaged")
        found["left"] += [f"{inside}/{one}" for one in folders if _LEFT.search(one)]
        for name in sorted(names):
            if _LEFT.search(name):
                found["left"].append(f"{inside}/{name}")
            elif not _FREE.fullmatch(name):
                found[f"{inside}/{name}"] = _file(here / name, root)
    # As it is read back.
    return json.loads(json.dumps(_versions_as_one(found)))


def _versions_as_one(found: dict[str, Any]) -> dict[str, Any]:
    """With versions of one export as one, as a kill may come after one was finished."""
    together: dict[str, Any] = {}
    for name, fact in found.items():
        one = _VERSION.sub(r"\1/N/", name)
        # Two that differ are no single one.
        same = one not in together or together[one] == fact
        together[one if same else name] = fact
    return together


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of facts that are not the same, with how they differ."""
    return [
        f"{name}: {_difference(found.get(name), expected.get(name))}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def _difference(found: Any, expected: Any) -> str:
    """The first one, in words."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            if found.get(key) != expected.get(key):
                return f"{key}: {_difference(found.get(key), expected.get(key))}"
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        at = next(n for n, one in enumerate(found) if one != expected[n])
        return f"[{at}]: {_difference(found[at], expected[at])}"
    return f"{json.dumps(found)[:200]}, not {json.dumps(expected)[:200]}"


def _checkpoint(path: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    found: dict[str, Any] = {}
    for item in sorted(path.iterdir()):
        if item.name == "metrics":
            found[item.name] = json.loads((item / "metrics").read_text(encoding="utf-8"))
        elif item.name == "progress":
            said = json.loads((item / "metadata").read_text(encoding="utf-8"))
            found[item.name] = _without_timings(said)
        elif item.is_dir():
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                found[item.name] = _crc_of_tree(_restored(reader, item.resolve()))
    return found


def _restored(reader: Any, item: Path) -> Any:
    """The arrays of an item, whatever devices they were on."""
    import jax
    import orbax.checkpoint as ocp

    plain = ocp.RestoreArgs(restore_type=np.ndarray)
    how = jax.tree.map(lambda _: plain, reader.metadata(item).item_metadata.tree)
    return reader.restore(item, args=ocp.args.PyTreeRestore(restore_args=how))


def _crc_of_tree(tree: Any) -> str:
    import jax

    crc = 0
    for place, leaf in jax.tree_util.tree_leaves_with_path(tree):
        value = np.asarray(leaf)
        about = f"{jax.tree_util.keystr(place)} {value.dtype} {value.shape}"
        crc = zlib.crc32(value.tobytes(), zlib.crc32(about.encode(), crc))
    return f"{crc:08x}"


def _file(file: Path, root: Path) -> Any:
    content = file.read_bytes()
    if file.suffix == ".jax_export":
        return _program(content)
    if file.suffix == ".array_record":
        return _records(file)
    if file.suffix in (".json", ".jsonl"):
        text = content.decode().replace(str(root), "HERE")
        try:
            if file.suffix == ".json":
                return _without_timings(json.loads(text))
            rows = [json.dumps(_without_timings(json.loads(line))) for line in text.splitlines()]
        except ValueError:
            return f"damaged: {text[:100]}"
        # An evaluation that a kill cut off may have been written.
        return sorted(set(rows)) if file.name == "evaluations.jsonl" else rows
    if file.suffix == ".md":
        # A campaign may go on over midnight.
        content = _DAY.sub(b"DAY", content)
    return f"{zlib.crc32(content):08x}"


def _records(file: Path) -> str:
    """What the records of a file are, in their order: bytes between them say nothing."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        records = ArrayRecordReader(str(file)).read_all()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        return f"damaged: {error}"
    crc = 0
    for record in records:
        crc = zlib.crc32(record, zlib.crc32(str(len(record)).encode(), crc))
    return f"{len(records)} records {crc:08x}"


def _program(content: bytes) -> str:
    """An exported program, without the lines of source that it was traced from."""
    from jax import export

    try:
        module = export.deserialize(bytearray(content)).mlir_module()
        plain = re.sub(r"^#loc.*\n|loc\((#loc\d*|unknown)\)", "", module, flags=re.MULTILINE)
        return f"{zlib.crc32(plain.encode()):08x}"
    except ValueError as error:
        return f"damaged: {error}"


def _without_timings(said: Any) -> Any:
    if isinstance(said, list):
        return [_without_timings(one) for one in said]
    if not isinstance(said, dict):
        return said
    # A checksum is of timings, too.
    return {
        key: _without_timings(value)
        for key, value in said.items()
        if key not in _TIMINGS and key != "checksum"
    }
