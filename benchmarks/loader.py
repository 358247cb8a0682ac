"""How many views a second of CPU time makes of JPEG files: this loader beside tf.data and torch.

  python benchmarks/loader.py [--images=1000] [--batches=12] [--rounds=5] [--json=FILE]

Makes photographs of 500×375 pixels (4:2:0, about 70 kB, noise with the spectrum of photographs) and
reads 224-pixel views of them through whole loaders, in turns: files are read, decoded, cropped as
the inception crop asks, resized, mirrored and put into batches of uint8.

  tf.data             as big_vision does it: decode_and_crop_jpeg, bilinear without antialiasing
  tf.data antialiased the same, antialiased as all the others are
  torch               its DataLoader, with Pillow in the data set as torchvision has it
  files               folder: as it is by default
  files, Pillow       with config.data.decoder=pillow
  prepared            what `distill prepare` makes of the files
  cached              with config.data.cache=ram, when all images are there
  cached, shrunk      and with config.data.shrink=256

What is not installed is left out. Evaluation views, the central part of every image, come after. A
loader runs until it is warm; then counts the CPU time, user and system, of its process and of its
workers for so many batches. Figures are the medians of the rounds.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# The code beside this file is what is used, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write, positive_int
from benchmarks.machine import write_figures
from distill.data import DataConfig
from distill.data.loader import EvalLoader, TrainLoader
from distill.data.preparing import Preparation, prepare
from distill.data.views import ViewConfig, draw_view, evaluation_view, generator
from distill.terminal import accept_any_text

HEIGHT, WIDTH, SIZE, BATCH = 375, 500, 224, 64
SHORT = 256

Batches = Iterator[np.ndarray]
Loader = Callable[[], "contextlib.AbstractContextManager[Batches]"]


def photograph(rng: np.random.Generator) -> Image.Image:
    """Noise of which the amplitude falls as 1/f, as that of photographs does, in like colours."""
    down, across = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    falling = np.maximum(np.hypot(down, across), 1 / WIDTH) ** -1.15
    waves = rng.normal(size=(3, 2, *falling.shape))
    planes = np.fft.irfft2((waves[:, 0] + 1j * waves[:, 1]) * falling, s=(HEIGHT, WIDTH))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    mixed = np.moveaxis(0.85 * planes[:1] + 0.4 * planes, 0, -1)
    return Image.fromarray(np.clip(120 + 50 * mixed, 0, 255).astype(np.uint8))


def make(root: Path, images: int) -> None:
    """Makes root/train/class_N/I.jpg."""
    rng = np.random.default_rng(0)
    for index in range(images):
        folder = root / "train" / f"class_{index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        photograph(rng).save(folder / f"{index:05}.jpg", quality=82, subsampling=2)


def ours(source_name: str, cores: int, **options: Any) -> Loader:
    """Training views of this loader."""

    @contextlib.contextmanager
    def opened() -> Iterator[Batches]:
        config = DataConfig(source=source_name, threads=cores, **options)
        source = config.open("train", channels=3)
        if config.cache:
            for index in range(len(source)):
                source.read(index)
        loader = TrainLoader(
            source, config, size=SIZE, batch_size=BATCH, seed=0, put=lambda batch: batch
        )
        with contextlib.closing(loader):
            yield (batch["image"] for batch in loader)

    return opened


def ours_evaluated(source_name: str, cores: int, **options: Any) -> Loader:
    """Evaluation views of this loader, over and over."""

    @contextlib.contextmanager
    def opened() -> Iterator[Batches]:
        config = DataConfig(source=source_name, threads=cores, **options)
        source = config.open("train", channels=3)
        loader = EvalLoader(source, config, size=SIZE, batch_size=BATCH, put=lambda batch: batch)
        again = itertools.chain.from_iterable(itertools.repeat(loader))
        with contextlib.closing(batch["image"] for batch in again) as batches:
            yield batches

    return opened


def tf_data(root: Path, cores: int, *, antialias: bool, training: bool = True) -> Loader:
    """big_vision's `decode_jpeg_and_inception_crop` and `flip_lr`, or its evaluation."""
    import tensorflow as tf

    def resize(image, size):
        resized = tf.image.resize(image, size, "bilinear", antialias=antialias)
        return tf.cast(tf.clip_by_value(resized, 0, 255), tf.uint8)

    def train(file):
        data = tf.io.read_file(file)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros([0, 0, 4], tf.float32),
            area_range=(0.05, 1.0),
            min_object_covered=0,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        return tf.image.random_flip_left_right(resize(image, (SIZE, SIZE)))

    def evaluate(file):
        image = tf.image.decode_jpeg(tf.io.read_file(file), channels=3)
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.cast(tf.round(shape * SHORT / tf.reduce_min(shape)), tf.int32)
        return tf.image.resize_with_crop_or_pad(resize(image, scaled), SIZE, SIZE)

    @contextlib.contextmanager
    def opened() -> Iterator[Batches]:
        files = sorted(map(str, root.glob("train/*/*.jpg")))
        data = tf.data.Dataset.from_tensor_slices(files).repeat()
        if training:
            data = data.shuffle(len(files))
        data = data.map(train if training else evaluate, num_parallel_calls=cores)
        yield iter(data.batch(BATCH, drop_remainder=True).prefetch(2).as_numpy_iterator())

    return opened


class _Files:
    """What torch's workers read: views drawn and cut by Pillow."""

    def __init__(self, root: Path, training: bool):
        self._files = sorted(map(str, root.glob("train/*/*.jpg")))
        self._training = training

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self._files[index]) as file:
            image = file.convert("RGB")
        config = ViewConfig()
        if not self._training:
            return evaluation_view(np.asarray(image), SIZE, config.evaluation).copy()
        width, height = image.size
        view = draw_view(height, width, config, generator(0, 0, index))
        cut = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=view.box)
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else cut
        return np.asarray(cut).copy()


def torch_loader(root: Path, cores: int, *, training: bool = True) -> Loader:
    """torch's DataLoader with a worker for each core."""
    import torch.utils.data

    @contextlib.contextmanager
    def opened() -> Iterator[Batches]:
        files: Any = _Files(root, training)
        loader = torch.utils.data.DataLoader(
            files, BATCH, shuffle=training, num_workers=cores, drop_last=True
        )
        epochs = (iter(loader) for _ in itertools.repeat(None))
        yield (batch.numpy() for batch in itertools.chain.from_iterable(epochs))

    return opened


def cpu_seconds() -> float:
    """User and system time of this process, of its workers, and of those that ended."""
    ticks = 0
    for worker in multiprocessing.active_children():
        # After the name, which may hold anything: the state, then ten numbers, then the two times.
        fields = (
            Path(f"/proc/{worker.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        ticks += int(fields[11]) + int(fields[12])
    return sum(os.times()[:4]) + ticks / os.sysconf("SC_CLK_TCK")


def measure(loader: Loader, batches: int) -> tuple[float, float]:
    """Images a second of CPU time, and of time."""
    with loader() as source:
        # As many as any of them keeps ready.
        for _ in range(6):
            next(source)
        cpu, wall = cpu_seconds(), time.perf_counter()
        for _ in range(batches):
            image = next(source)
            assert image.shape == (BATCH, SIZE, SIZE, 3) and image.dtype == np.uint8
        images = BATCH * batches
        # In less than a tick no time has passed by the clocks of processes.
        taken = max(cpu_seconds() - cpu, 1 / os.sysconf("SC_CLK_TCK"))
        return images / taken, images / (time.perf_counter() - wall)


def loaders(root: Path, prepared: Path, cores: int) -> dict[str, dict[str, Loader]]:
    """By what they deliver, by name; the first of each is what others are compared with."""
    files = f"folder:{root}"
    found: dict[str, dict[str, Loader]] = {"training views": {}, "evaluation views": {}}
    training, evaluation = found.values()
    with contextlib.suppress(ImportError):
        training["tf.data"] = tf_data(root, cores, antialias=False)
        training["tf.data antialiased"] = tf_data(root, cores, antialias=True)
        evaluation["tf.data"] = tf_data(root, cores, antialias=False, training=False)
        evaluation["tf.data antialiased"] = tf_data(root, cores, antialias=True, training=False)
    with contextlib.suppress(ImportError):
        training["torch"] = torch_loader(root, cores)
        evaluation["torch"] = torch_loader(root, cores, training=False)
    training["files"] = ours(files, cores)
    training["files, Pillow"] = ours(files, cores, decoder="pillow")
    training["prepared"] = ours(f"prepared:{prepared}", cores)
    training["cached"] = ours(files, cores, cache="ram")
    training["cached, shrunk"] = ours(files, cores, cache="ram", shrink=SHORT)
    evaluation["files"] = ours_evaluated(files, cores)
    evaluation["files, Pillow"] = ours_evaluated(files, cores, decoder="pillow")
    evaluation["prepared"] = ours_evaluated(f"prepared:{prepared}", cores)
    return found


def run(
    root: Path, prepared: Path, cores: int, batches: int, rounds: int
) -> dict[str, dict[str, dict]]:
    """Measures all in turns and prints a table."""
    figures: dict[str, dict[str, dict]] = {}
    for what, named in loaders(root, prepared, cores).items():
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
        for _ in range(rounds):
            for name, loader in named.items():
                rates[name].append(measure(loader, batches))
        medians = {
            name: tuple(map(statistics.median, zip(*r, strict=True))) for name, r in rates.items()
        }
        first = next(iter(medians))
        print(f"\n{what:<24} images per CPU-second   images per second   × {first}")
        for name, (cpu, wall) in medians.items():
            ratio = cpu / medians[first][0]
            print(f"  {name:<22} {cpu:23,.0f} {wall:19,.0f} {ratio:11.2f}")
        figures[what] = {
            name: {
                "per_cpu_second": cpu,
                "per_second": wall,
                f"ratio_to_{first}": cpu / medians[first][0],
                "rounds": [rate[0] for rate in rates[name]],
            }
            for name, (cpu, wall) in medians.items()
        }
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--images", type=positive_int, default=1000, help="how many files")
    parser.add_argument("--batches", type=positive_int, default=12, help="to measure, of 64")
    parser.add_argument("--rounds", type=positive_int, default=5, help="measurements of each")
    parser.add_argument("--cores", type=positive_int, default=os.cpu_count(), help="threads")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write it here")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root, prepared = Path(folder, "files"), Path(folder, "prepared")
        make(root, args.images)
        size = sum(file.stat().st_size for file in root.glob("train/*/*.jpg")) / args.images
        print(f"{args.images:,} JPEG files of {WIDTH}×{HEIGHT} pixels and {size / 1e3:.0f} kB")
        source = f"folder:{root}"
        prepare(Preparation(source=source, output=prepared, workers=args.cores), print)
        figures = run(root, prepared, args.cores, args.batches, args.rounds)
        write_figures(args.json, figures)


if __name__ == "__main__":
    main()
