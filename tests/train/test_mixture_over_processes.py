"""A mixture of formats, over processes that are killed and come back as others."""

import contextlib
import io
import shutil
import tarfile

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from processes import complete, ended, saved, start, wait_for_a_checkpoint
from support import arguments, final_params, pretrain_config, without_timings

from distill.data import TrainLoader
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import pretrain

STEPS = 16
EACH = 30


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """Thirty images each in tars, a table and a folder; two classes are in all of them."""
    root = tmp_path_factory.mktemp("mixed")
    for shard in range(2):
        with tarfile.open(root / f"train-{shard:05}.tar", "w") as tar:
            for number in range(shard, EACH, 2):
                content = {"png": png(number), "cls": str(number % 2).encode()}
                for suffix, data in content.items():
                    member = tarfile.TarInfo(f"{number:05}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    images = [{"bytes": png(100 + number), "path": f"{number}.png"} for number in range(EACH)]
    table = pa.table({"image": images, "label": [f"{number % 3}" for number in range(EACH)]})
    (root / "table").mkdir()
    pyarrow.parquet.write_table(table, root / "table" / "train.parquet", row_group_size=7)
    for number in range(EACH):
        folder = root / "folder" / "train" / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(200 + number))
    return {
        "tars": f"wds:{root}/train-{{00000..00001}}.tar",
        "table": f"parquet:{root / 'table'}",
        "files": f"folder:{root / 'folder'}",
    }


RUN = dict(
    train__total_steps=STEPS,
    train__log_every=1,
    train__checkpoint_every=4,
    train__batch_size=12,
    model__depth=1,
    model__num_classes=3,
    # Rounding decides on steps of parameters without a gradient where these are normalised.
    optimizer__name="sgd",
    optimizer__learning_rate=0.1,
    loss__mixup=0.2,
    data__validation_split="none",
    data__test_split="none",
    data__mixture__table__weight=2.5,
)


def mixed(sources: dict[str, str]) -> dict[str, object]:
    return RUN | {f"data__mixture__{name}__source": source for name, source in sources.items()}


@pytest.mark.slow
def test_a_mixture_that_was_killed_goes_on_on_any_number_of_processes(sources, tmp_path):
    whole, killed, alone = (tmp_path / name for name in ("whole", "killed", "alone"))
    config = pretrain_config(**mixed(sources))
    flags = arguments("pretrain/digits.py", killed, **mixed(sources), mesh__data=6)

    processes = start(killed, flags, 2, 6)
    wait_for_a_checkpoint(killed, processes)
    for process in processes:
        process.kill()
    ended(killed, processes)
    assert saved(killed)[-1] < STEPS
    shutil.copytree(killed, alone)
    complete(killed, flags, 3, 6)
    for workdir in (whole, alone):
        pretrain.run(config, Workdir(workdir), overview=False)

    expected, params = without_timings(metrics.read(whole)), jax.tree.leaves(final_params(whole))
    assert expected[-1]["train/images/table"] > STEPS * 12 / 2
    assert len({row["train/loss"] for row in expected}) > STEPS // 2
    for workdir in (killed, alone):
        rows = without_timings(metrics.read(workdir))
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, rel=1e-5)
        for one, other in zip(jax.tree.leaves(final_params(workdir)), params, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_processes_together_read_what_one_reads(sources):
    """Batches of 12, of which the third to fifth are read; killed processes left off there."""
    config = pretrain_config(**mixed(sources)).data
    source = config.open_training(channels=1)

    def read(rows, start=24):
        loader = TrainLoader(
            source,
            config,
            size=8,
            batch_size=12,
            seed=0,
            put=lambda batch: batch,
            rows=rows,
            next_example=start,
        )
        with contextlib.closing(loader):
            return [next(loader) for _ in range(3)]

    whole = read(range(12))
    assert len({int(index) for batch in whole for index in batch["index"]}) > 20
    for processes in (1, 2, 3):
        parts = [read(range(12)[part * 12 // processes :][: 12 // processes])
                 for part in range(processes)]  # fmt: skip
        for number, batch in enumerate(whole):
            for name, array in batch.items():
                joined = np.concatenate([part[number][name] for part in parts])
                np.testing.assert_array_equal(joined, array)
