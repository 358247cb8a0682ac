import time

import numpy as np
import pytest
from support import wait_for

from distill.data import DataConfig, EvalLoader, TrainLoader, ViewConfig
from distill.data.examples import EvaluationViews, TrainingViews
from distill.data.loader import batches
from distill.data.order import shuffled_index
from distill.data.spec import labelled_images
from distill.data.views import evaluation_view
from distill.errors import UserError
from distill.evaluation_view import EvaluationView


class Noise:
    """Random images of two sizes; the label is the number modulo 3."""

    class_names = ("a", "b", "c")

    def __init__(self, count, channels=1):
        self.count, self.spec = count, labelled_images(channels)

    def __len__(self):
        return self.count

    def read(self, index):
        rng = np.random.default_rng(index)
        shape = (8, 8 + index % 2, self.spec["image"].channels)
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        return {"image": image, "label": np.int32(index % 3)}

    def describe(self, index):
        return f"noise {index}"


def views(count=37, batch_size=8, **options):
    rows = options.pop("rows", range(batch_size))
    return TrainingViews(
        Noise(count), ViewConfig(), 8, options.pop("seed", 0), batch_size, rows, **options
    )


def same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


def loader(count=40, batch_size=8, config=None, **options):
    config = config or DataConfig()
    put = options.pop("put", lambda batch: batch)
    return TrainLoader(
        Noise(count), config, size=8, batch_size=batch_size, seed=0, put=put, **options
    )


def take(loader, count):
    try:
        return [next(loader) for _ in range(count)]
    finally:
        loader.close()


@pytest.mark.parametrize("count", [1, 2, 3, 8, 37, 256])
def test_every_epoch_is_a_permutation_of_all_images(count):
    data = views(count)
    for epoch in range(3):
        seen = [data.example(epoch * count + place)["index"] for place in range(count)]
        assert sorted(seen) == list(range(count))


def test_order_differs_between_epochs_and_seeds():
    orders = {
        tuple(shuffled_index(place, 37, seed, epoch) for place in range(37))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


@pytest.mark.parametrize("place", [0, 99])
def test_every_image_is_as_likely_at_every_place(place):
    epochs, count = 600, 100
    drawn = [shuffled_index(place, count, 0, epoch) for epoch in range(epochs)]
    hits = np.bincount(drawn, minlength=count)
    expected = epochs / count
    # 99 degrees of freedom: a uniform draw stays below with probability 1 − 2e-6.
    assert ((hits - expected) ** 2 / expected).sum() < 175


def test_example_holds_a_view_of_the_image_it_names():
    data = views(10, batch_size=5)
    plain = ViewConfig(crop_area=(1, 1), crop_ratio=(1, 1), flip=False)
    data = TrainingViews(Noise(10), plain, 8, 0, 5, range(5))
    for place in range(10):
        example = data[place]
        image, label = Noise(10).read(int(example["index"])).values()
        assert example["label"] == label == example["index"] % 3
        assert example["mask"]
        if image.shape[1] == 8:
            np.testing.assert_array_equal(example["image"], image)


def test_views_of_an_image_differ_between_epochs():
    data = views(16)
    first = {int(e["index"]): e["image"] for e in map(data.example, range(16))}
    second = {int(e["index"]): e["image"] for e in map(data.example, range(16, 32))}
    assert sum(np.array_equal(first[i], second[i]) for i in range(16)) <= 1


# Of a batch of 8: halves, every other pair, all of it twice, uneven parts.
PARTS = [
    [range(4), range(4, 8)],
    [(0, 1, 4, 5), (2, 3, 6, 7)],
    [range(8), range(8)],
    [(0,), (1, 2, 3, 4, 5, 6, 7)],
]


@pytest.mark.parametrize("parts", PARTS)
def test_each_process_reads_its_rows_of_the_batches_of_a_single_one(parts):
    reference = views()
    for rows in parts:
        data = views(rows=rows)
        for step in range(3):
            for place, row in enumerate(rows):
                assert same(data[step * len(rows) + place], reference.example(step * 8 + row))


def test_loader_hands_out_the_rows_asked_for():
    whole, part = take(loader(), 3), take(loader(rows=(0, 1, 4, 5)), 3)
    for one, other in zip(whole, part, strict=True):
        assert same({name: values[[0, 1, 4, 5]] for name, values in one.items()}, other)


@pytest.mark.parametrize("start", [8, 40, 13])
def test_start_continues_at_that_position(start):
    for rows in (range(8), range(4, 8)):
        data = views(start=start, rows=rows)
        for local in range(2 * len(rows)):
            step, place = divmod(local, len(rows))
            assert same(data[local], views().example(start + step * 8 + rows[place]))


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_hold_consecutive_positions(threads):
    data = views()
    stream = batches(data, DataConfig(threads=threads))
    for step in range(6):
        batch = next(stream)
        for row in range(8):
            example = data.example(8 * step + row)
            assert same({name: values[row] for name, values in batch.items()}, example)


def test_batch_on_the_device_side_has_image_label_index_and_mask():
    (batch,) = take(loader(), 1)
    described = {name: (values.dtype, values.shape) for name, values in batch.items()}
    assert described == {
        "image": (np.uint8, (8, 8, 8, 1)),
        "label": (np.int32, (8,)),
        "index": (np.int64, (8,)),
        "mask": (np.bool_, (8,)),
    }


def test_loader_gives_what_put_makes_of_the_batches():
    plain = take(loader(), 3)
    put = take(loader(put=lambda batch: {"first": batch["index"][0]}), 3)
    assert [p["first"] for p in put] == [b["index"][0] for b in plain]


def test_state_counts_the_examples_handed_out_not_those_read_ahead():
    made = []
    data = loader(next_example=16, ahead=3, put=lambda batch: made.append(1) or batch)
    wait_for(lambda: len(made) == 3)
    assert data.state() == {"next_example": 16, "skipped": 0}
    for step in range(1, 4):
        next(data)
        assert data.state()["next_example"] == 16 + 8 * step
    data.close()


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_restart_continues_bit_exactly(steps):
    # Five batches are an epoch: the continuation crosses into the next.
    whole = loader()
    before = [next(whole) for _ in range(steps)]
    state = whole.state()
    expected = take(whole, 5)
    assert len(before) == steps
    resumed = take(loader(**state), 5)
    assert all(same(a, b) for a, b in zip(resumed, expected, strict=True))


def test_restart_with_another_batch_size_goes_on_at_the_next_example():
    state = {"next_example": 24}
    small, large = take(loader(batch_size=4, **state), 4), take(loader(batch_size=16, **state), 1)
    joined = {name: np.concatenate([b[name] for b in small]) for name in small[0]}
    assert same(joined, large[0])


def test_batch_of_all_images_is_an_epoch():
    first, second = take(loader(count=8, batch_size=8), 2)
    assert sorted(first["index"]) == sorted(second["index"]) == list(range(8))


def test_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match=r"batch size 9 .*\(8 images\)"):
        loader(count=8, batch_size=9)


def test_time_spent_waiting_is_counted():
    def slow(batch):
        time.sleep(0.05)
        return batch

    data = loader(put=slow, ahead=1)
    assert data.wait_seconds == 0
    waited, start = [], time.perf_counter()
    for _ in range(4):
        next(data)
        waited.append(data.wait_seconds)
    elapsed = time.perf_counter() - start
    data.close()
    assert np.all(np.diff(waited) > 0.02)
    assert 0.1 < waited[-1] <= elapsed


def test_as_many_batches_are_kept_ready_as_asked():
    made = []
    data = loader(put=lambda batch: made.append(1) or batch, ahead=3)
    wait_for(lambda: len(made) == 3)
    next(data)
    wait_for(lambda: len(made) == 4)
    time.sleep(0.1)
    data.close()
    assert len(made) == 4


def test_batches_are_made_while_the_step_runs():
    made = []

    def slow(batch):
        time.sleep(0.5)
        made.append(1)
        return batch

    data = loader(put=slow, ahead=2)
    next(data)
    wait_for(lambda: len(made) == 3)
    before = data.wait_seconds
    next(data)
    data.close()
    assert data.wait_seconds - before < 0.25


def test_error_while_reading_reaches_the_step():
    def broken(batch):
        raise ZeroDivisionError

    data = loader(put=broken)
    with pytest.raises(ZeroDivisionError):
        next(data)
    data.close()


@pytest.mark.parametrize(
    "count, batch_size, hosts",
    [(20, 8, 1), (20, 8, 2), (16, 8, 1), (16, 8, 4), (3, 8, 1), (3, 8, 2), (20, 1, 1)],
)
def test_evaluation_covers_each_image_once_in_order(count, batch_size, hosts):
    data = [
        EvaluationViews(Noise(count), ViewConfig(), 8, batch_size, part)
        for part in np.split(np.arange(batch_size), hosts)
    ]
    steps = -(-count // batch_size)
    share = batch_size // hosts
    assert all(d.steps == steps and len(d) == steps * share for d in data)
    rows = [
        data[host][step * share + row]
        for step in range(steps)
        for host in range(hosts)
        for row in range(share)
    ]
    assert [bool(r["mask"]) for r in rows] == [i < count for i in range(len(rows))]
    assert [int(r["index"]) for r in rows if r["mask"]] == list(range(count))
    for row in rows[:count]:
        image, label = Noise(count).read(int(row["index"])).values()
        assert row["label"] == label
        np.testing.assert_array_equal(row["image"], evaluation_view(image, 8, EvaluationView()))


def test_evaluation_loader_goes_over_the_split_once_each_time():
    data = EvalLoader(Noise(20), DataConfig(), size=8, batch_size=8, put=lambda batch: batch)
    for _ in range(2):
        found = list(data)
        assert [len(b["image"]) for b in found] == [8, 8, 8]
        mask = np.concatenate([b["mask"] for b in found])
        index = np.concatenate([b["index"] for b in found])
        label = np.concatenate([b["label"] for b in found])
        assert mask.tolist() == [True] * 20 + [False] * 4
        assert index[mask].tolist() == list(range(20))
        assert (label[mask] == index[mask] % 3).all()
        assert "skipped" not in found[0]


def test_splits_have_the_same_classes_or_are_refused(tmp_path):
    from PIL import Image

    for split, names in {"train": "ab", "validation": "ab", "test": "abc"}.items():
        for name in names:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("L", (4, 4)).save(folder / "i.png")
    source = f"folder:{tmp_path}"
    splits = DataConfig(source=source, test_split=None).open_splits(channels=1)
    assert splits.test is None and len(splits.validation) == 2
    with pytest.raises(UserError, match=r"split 'test' of .* that split 'train' of .* have: 'c'"):
        DataConfig(source=source).open_splits(channels=1)


@pytest.mark.parametrize("values", [dict(workers=-1), dict(threads=0), dict(max_corrupt_share=1.5)])
def test_impossible_data_config_is_refused(values):
    (name,) = values
    with pytest.raises(ValueError, match=name):
        DataConfig(**values)
