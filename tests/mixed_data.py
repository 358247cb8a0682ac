"""A mixture of three formats, small enough to be made in a moment."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

EACH = 30


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def three_formats(root: Path) -> dict[str, object]:
    """Overrides for a mixture of thirty images each, of ten classes, in tars, table and folder."""
    for shard in range(2):
        with tarfile.open(root / f"train-{shard:05}.tar", "w") as tar:
            for number in range(shard, EACH, 2):
                content = {"png": png(number), "cls": str(number % 10).encode()}
                for suffix, data in content.items():
                    member = tarfile.TarInfo(f"{number:05}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    images = [{"bytes": png(100 + number), "path": f"{number}.png"} for number in range(EACH)]
    table = pa.table({"image": images, "label": [f"{number % 10}" for number in range(EACH)]})
    (root / "table").mkdir()
    pyarrow.parquet.write_table(table, root / "table" / "train.parquet", row_group_size=7)
    for number in range(EACH):
        folder = root / "folder" / "train" / f"{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(200 + number))
    return {
        "data__mixture__tars__source": f"wds:{root}/train-{{00000..00001}}.tar",
        "data__mixture__table__source": f"parquet:{root / 'table'}",
        "data__mixture__table__weight": 2.5,
        "data__mixture__files__source": f"folder:{root / 'folder'}",
        "data__eval_source": "digits",
    }
