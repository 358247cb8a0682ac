"""Data sources whose files are no longer what they were, opened and read whole."""

import importlib.util
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.chaos.attempts import attempt
from benchmarks.chaos.fault import Fault, Outcome
from benchmarks.chaos.mutations import flipped, mutated
from distill.data import open_source
from distill.data.sources import CorruptImage
from distill.data.sources.manifest import MANIFEST

_IMAGES, _CLASSES = 12, 3
_NAMES = ("ant", "bee", "cat")


def _png(number: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def _folder(root: Path) -> str:
    for number in range(_IMAGES):
        file = root / "train" / _NAMES[number % _CLASSES] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_png(number))
    return f"folder:{root}"


def _list(root: Path) -> str:
    _folder(root / "images")
    lines = [
        f"images/train/{_NAMES[number % _CLASSES]}/{number}.png,{_NAMES[number % _CLASSES]}\n"
        for number in range(_IMAGES)
    ]
    (root / "train.csv").write_text("".join(lines), encoding="utf-8")
    return f"list:{root / 'train.csv'}"


def _tars(root: Path) -> str:
    for shard in range(2):
        with tarfile.open(root / f"train-{shard}.tar", "w") as tar:
            for number in range(shard, _IMAGES, 2):
                content = {"png": _png(number), "cls": str(number % _CLASSES).encode()}
                for suffix, data in content.items():
                    member = tarfile.TarInfo(f"{number:04}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return f"wds:{root}"


def _table() -> Any:
    import pyarrow as pa

    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(_NAMES), "_type": "ClassLabel"},
    }
    images = [{"bytes": _png(number), "path": f"{number}.png"} for number in range(_IMAGES)]
    table = pa.table({"image": images, "label": [n % _CLASSES for n in range(_IMAGES)]})
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def _parquet(root: Path, **options: Any) -> str:
    import pyarrow.parquet

    pyarrow.parquet.write_table(_table(), root / "train.parquet", row_group_size=5, **options)
    return f"parquet:{root}"


def _arrow(root: Path) -> str:
    import pyarrow as pa

    table, name = _table(), "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(root / name, table.schema) as out:
        for start in range(0, _IMAGES, 5):
            out.write_table(table.slice(start, 5).combine_chunks())
    about = {"_data_files": [{"filename": name}], "_fingerprint": "0", "_split": "train"}
    (root / "state.json").write_text(json.dumps(about), encoding="utf-8")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]
    (root / "dataset_info.json").write_text(json.dumps(features), encoding="utf-8")
    return f"hf:{root}"


def _array_record(root: Path) -> str:
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_generated_pb2

    writer = ArrayRecordWriter(str(root / "train.array_record"), "group_size:1")
    for number in range(_IMAGES):
        # Protocol Buffers make their classes while they are imported.
        messages: Any = tf_example_generated_pb2
        example = messages.Example()
        features = example.features.feature
        features["image"].bytes_list.value.append(_png(number))
        features["label"].int64_list.value.append(number % _CLASSES)
        writer.write(example.SerializeToString())
    writer.close()
    return f"array_record:{root}"


def _prepared(root: Path, form: str = "array_record") -> str:
    from distill.data.preparing import Preparation, prepare

    source = _folder(root.with_name(f"{root.name} photos"))
    options: Any = dict(splits=("train",), workers=0, images_per_shard=5, form=form)
    prepare(Preparation(source=source, output=root, **options), lambda line: None)
    return f"prepared:{root}"


def _kinds() -> dict[str, Callable[[Path], str]]:
    found: dict[str, Callable[[Path], str]] = {
        "folder": _folder,
        "list": _list,
        "tars": _tars,
        "array records": _array_record,
        "prepared": _prepared,
        "prepared tars": lambda root: _prepared(root, "tar"),
    }
    if importlib.util.find_spec("pyarrow"):
        found["parquet"] = _parquet
        found["plain parquet"] = lambda root: _parquet(
            root, compression="none", use_dictionary=False
        )
        found["zstd parquet"] = lambda root: _parquet(
            root, compression="zstd", data_page_version="2.0"
        )
        found["arrow"] = _arrow
    return found


def prepare(given: Path) -> None:
    """Writes a source of each kind, and reads it once, which writes what is kept beside it."""
    for kind, write in _kinds().items():
        root = given / kind
        root.mkdir()
        name = write(root)
        (given / f"{kind}.name").write_text(name.replace(str(root), "ROOT"), encoding="utf-8")
        content_of(name)


def content_of(name: str) -> list[Any]:
    """Names, labels and pixels of a source, also those of images that are corrupt."""
    source = open_source(name, "train", channels=3)
    found: list[Any] = [source.class_names, source.labels.tolist()]
    for index in range(len(source)):
        try:
            example = source.read(index)
            image = np.asarray(example["image"])
            found.append((source.name(index), int(example["label"]), image.shape, image.tobytes()))
        except CorruptImage:
            found.append(None)
    return found


def _labels_fit(content: list[Any]) -> bool:
    classes, labels, *images = content
    said = [*labels, *(one[1] for one in images if one)]
    return all(-1 <= label < len(classes) for label in said) if classes else True


def _is_checked(kind: str, file: Path) -> bool:
    """Whether a file has checksums, or can be made anew of the others."""
    return kind == "prepared" or file.suffix == ".index" or file.name == MANIFEST


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Mutates a file of a source, and reads all of it."""
    kind = random.choice(sorted(one.stem for one in given.glob("*.name")))
    root = directory / kind
    # With its times, by which an index knows that it still fits.
    shutil.copytree(given / kind, root)
    if (photos := given / f"{kind} photos").exists():
        shutil.copytree(photos, directory / photos.name)
    name = (given / f"{kind}.name").read_text(encoding="utf-8").replace("ROOT", str(root))
    expected = content_of(name)
    file = random.choice(sorted(_files(root)))
    change = random.choice((flipped, mutated, mutated))
    said = f"{kind}: {file.relative_to(root)} {change.__name__}"
    file.write_bytes(change(file.read_bytes(), random))

    def read() -> bool:
        found = content_of(name)
        return found == expected or (_labels_fit(found) and not _is_checked(kind, file))

    return attempt(said, read)


def _files(root: Path) -> Iterable[Path]:
    return (one for one in root.rglob("*") if one.is_file() and one.stat().st_size)


FAULT = Fault(
    name="sources",
    tries="folders, lists, tars, Parquet, Arrow, ArrayRecord and prepared data with the same "
    "changes, also of the indices beside them, opened and read whole",
    trials=1000,
    trial=trial,
    prepare=prepare,
    seconds=60,
    commands=False,
    together=50,
)
