"""Tables of images, as Hugging Face has them, for tests of formats that hold them."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from distill.data.sources import CorruptImage

NAMES = ("ant", "bee", "cat")
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": list(NAMES), "_type": "ClassLabel"},
}


def blob(number, size=None):
    """Bytes unlike all others, of which a part compresses."""
    rng = np.random.default_rng(number)
    size = rng.integers(20, 3000) if size is None else size
    return b"same" * 20 + rng.bytes(size)


def png(number):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def table(blobs, labels=None, *, nested=True, features=FEATURES, paths=None):
    """As Hugging Face writes it, if `nested`."""
    labels = [n % 3 for n in range(len(blobs))] if labels is None else labels
    if nested:
        paths = [f"{n}.jpg" for n in range(len(blobs))] if paths is None else paths
        images = pa.StructArray.from_arrays(
            [pa.array(blobs, pa.binary()), pa.array(paths, pa.string())], ["bytes", "path"]
        )
    else:
        images = pa.array(blobs, pa.binary())
    found = pa.table({"id": list(range(len(blobs))), "image": images, "label": labels})
    info = json.dumps({"info": {"features": features}}) if features else "{}"
    return found.replace_schema_metadata({"huggingface": info})


def write_parquet(path, content, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, **options)
    return path


def encoded(source):
    """Of each image its bytes, or the reason why there are none."""
    found = []
    for index in range(len(source)):
        try:
            found.append(source.encoded(index))
        except CorruptImage as error:
            found.append(str(error))
    return found


def damage(file, place, data):
    """Overwrites a part of a file, which keeps its size and time."""
    about = os.stat(file)
    with open(file, "r+b") as out:
        out.seek(place)
        out.write(data)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
