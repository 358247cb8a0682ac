"""A source of one's own: what goes with an image is seen as the image is, through every loader."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from support import Damaged

from distill.data import DataConfig, EvalLoader, Store, StoreWriter, Subset, TrainLoader, ViewConfig
from distill.data.batch_spec import abstract_batch, batch_spec
from distill.data.examples import EvaluationViews, TrainingViews
from distill.data.sources.base import Derived, fingerprint_of
from distill.data.spec import (
    ArraySpec,
    ClassesSpec,
    ImageSpec,
    LabelSpec,
    MaskSpec,
    TokensSpec,
    ValuesSpec,
)
from distill.data.store import VIEW_FIELDS, Contents
from distill.errors import RunFailed, UserError
from distill.evaluation_view import EvaluationView
from distill.parallel import MeshConfig, make_mesh, put_batch

COUNT, SIZE, BATCH = 11, 8, 4
PARTS = ("sky", "sea", "ship")


class Scenes:
    """Images whose every array can be told from the pixels: see `expected`."""

    class_names = ("calm", "storm")

    def __init__(self, **spec):
        self.spec = {
            "image": ImageSpec(3),
            "label": LabelSpec(),
            "segmentation": MaskSpec(PARTS),
            "depth": ValuesSpec(),
            "caption": TokensSpec(4),
        } | spec
        self.labels = np.arange(COUNT, dtype=np.int32) % 2
        self.fingerprint = fingerprint_of("scenes")
        self.found = f"{COUNT} scenes"

    def __len__(self):
        return COUNT

    def read(self, index):
        height, width = 20 + index, 30 - index
        y, x = np.mgrid[:height, :width]
        pixels = np.stack([4 * x, 4 * y, np.full_like(x, index)], axis=-1).astype(np.uint8)
        return {
            "image": pixels,
            "label": self.labels[index],
            "segmentation": np.where(x + y < 25, x // 10, 255).astype(np.uint8),
            "depth": np.where(x < 25, 4.0 * x, np.nan).astype(np.float32),
            "caption": np.array([index, 1, 2, 3], np.int32),
        }

    def describe(self, index):
        return f"scene {index}"


def check(example):
    """What belongs to the pixels of a view lies where its pixels do."""
    across, down = (example["image"][..., c].astype(float) / 4 for c in (0, 1))
    index = int(example["caption"][0])
    assert index == example["index"] and (example["image"][..., 2] == index).all()
    assert example["label"] == index % 2 and example["caption"].tolist() == [index, 1, 2, 3]
    seen = example["segmentation"]
    assert seen.shape == (SIZE, SIZE) and seen.dtype == np.uint8
    assert {*np.unique(seen)} <= {0, 1, 2, 255}
    # A pixel of the view is one of the image's around its middle: less than one beside it where a
    # view enlarges, and half of its width where it shrinks.
    apart = np.abs(np.diff(across, axis=1)).max() / 2 + 1
    clear = np.abs(across + down - 24.5) > 2 * apart
    clear &= np.abs((across + 0.5) % 10 - 5) < 5 - apart
    assert clear.any()
    classes = np.where(across + down < 24.5, (across + 0.5) // 10, 255)
    np.testing.assert_array_equal(seen[clear], classes[clear])
    depth, known = example["depth"], across < 24 - apart
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth[known], 4 * across[known], atol=2)
    assert np.isnan(depth[across > 25 + apart]).all()


def train(source, **options):
    options = dict(view=ViewConfig(crop_area=(0.4, 1.0)), max_corrupt_share=0.5) | options
    return TrainLoader(
        source, DataConfig(**options), size=SIZE, batch_size=BATCH, seed=0, put=lambda batch: batch
    )


def rows(batch):
    return [{name: values[row] for name, values in batch.items()} for row in range(BATCH)]


def test_what_belongs_to_pixels_is_cut_and_mirrored_with_them_in_training():
    loader = train(Scenes())
    seen = [row for _ in range(20) for row in rows(next(loader))]
    loader.close()
    for row in seen:
        check(row)
    mirrored = [np.diff(row["image"][..., 0].astype(int), axis=1).min() < 0 for row in seen]
    assert 20 < sum(mirrored) < 60


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    "view",
    [
        EvaluationView(),
        EvaluationView(crop=1.0, resize="squash", filter="bicubic"),
        EvaluationView(crop=0.8, unseen=1, rounding="even"),
    ],
)
def test_what_belongs_to_pixels_is_cut_with_them_in_evaluation(view, seed):
    loader = EvalLoader(
        Scenes(),
        DataConfig(),
        size=SIZE,
        batch_size=BATCH,
        put=lambda batch: batch,
        view=view,
        view_seed=seed,
    )
    seen = [row for batch in loader for row in rows(batch) if row["mask"]]
    assert len(seen) == COUNT
    for row in seen:
        check(row)


def test_rows_that_are_no_image_have_no_classes_and_no_values():
    source = Damaged(Scenes(), {1})
    views = EvaluationViews(source, ViewConfig(), SIZE, BATCH, range(BATCH))
    for local in (1, COUNT):
        row = views[local]
        assert not row["mask"] and not row["image"].any() and not row["caption"].any()
        assert (row["segmentation"] == 255).all() and np.isnan(row["depth"]).all()


def test_a_source_without_labels_has_batches_without_labels():
    spec = {"image": ImageSpec(3)}
    source = Changed(Scenes(), lambda e: {"image": e["image"]}, spec)
    views = EvaluationViews(source, ViewConfig(), SIZE, BATCH, range(BATCH))
    assert all(views[local]["label"] == -1 for local in range(COUNT))
    loader = train(source)
    batch = next(loader)
    loader.close()
    assert batch["label"].dtype == np.int32 and batch["label"].tolist() == [-1] * BATCH


def test_the_next_whole_example_stands_in_for_a_corrupt_one():
    views = TrainingViews(Damaged(Scenes(), {2, 3}), ViewConfig(), SIZE, 0, BATCH, range(BATCH))
    found = [views.example(position) for position in range(COUNT)]
    assert sum(int(example["skipped"] >= 0) for example in found) == 2
    for example in found:
        assert example["caption"][0] == example["index"] not in (2, 3)


def test_a_teachers_view_is_of_the_image_alone():
    views = TrainingViews(
        Scenes(), ViewConfig(), SIZE, 0, BATCH, range(BATCH), teacher_view="independent"
    )
    example = views.example(0)
    assert example.keys() - Scenes().spec.keys() == {"teacher_image", "index", "mask", "skipped"}


def test_a_replay_cuts_the_whole_example(tmp_path):
    source, contents = Scenes(), Contents(examples=4, batch_size=4, examples_per_file=4, arrays={})
    live = TrainingViews(source, ViewConfig(), SIZE, 0, BATCH, range(BATCH), describe=True)
    records = np.zeros(4, contents.record)
    for position in range(4):
        example = live.example(position)
        for field in ("epoch", "index", "box", "flip"):
            records[position][field] = example[field]
    assert {field for field, *_ in VIEW_FIELDS} >= {"epoch", "index", "box", "flip"}
    writer = StoreWriter(tmp_path, contents)
    writer.write(records)
    writer.close()
    again = dataclasses.replace(live, describe=False, store=Store(tmp_path))
    for position in range(4):
        for name, array in again.example(position).items():
            np.testing.assert_array_equal(array, live.example(position)[name])


@pytest.mark.parametrize("teacher_view", ["same", "independent", "fixed"])
def test_a_batch_on_the_devices_is_what_its_spec_says(teacher_view):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    plain = {"image": ImageSpec(3), "classes": ClassesSpec(2)}
    for source in (Scenes(), Changed(Scenes(), lambda e: several(e), plain)):
        loader = TrainLoader(
            source,
            DataConfig(),
            size=SIZE,
            batch_size=BATCH,
            seed=0,
            put=lambda batch: put_batch(mesh, batch, size=BATCH),
            teacher_view=teacher_view,
        )
        found = next(loader)
        loader.close()
        spec = batch_spec(source.spec, SIZE, teacher_view=teacher_view)
        abstract = abstract_batch(spec, BATCH)
        assert {name: (a.shape, a.dtype) for name, a in found.items()} == {
            name: (a.shape, a.dtype) for name, a in abstract.items()
        }


class Changed(Derived):
    """A source whose examples are not as its spec says."""

    def __init__(self, source, change, spec=None):
        super().__init__(source)
        self.spec = spec or source.spec
        self._change = change

    def read(self, index):
        return self._change(super().read(index))


def several(example):
    classes = np.eye(2, dtype=np.float32)[example["label"]]
    return {"image": example["image"], "classes": classes}


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda e: e | {"mask of ships": np.zeros((3, 3))},
            r"scene 0 holds .*'mask of ships', but the source's spec says 'image', 'label'",
        ),
        (lambda e: {"image": e["image"]}, r"scene 0 holds 'image', but the source's spec says"),
        (
            lambda e: e | {"depth": e["depth"].astype(np.float64)},
            r"'depth' of scene 0 is float64 \[20, 30\], but .* says float32 \[any, any\]",
        ),
        (lambda e: e | {"caption": e["caption"][:3]}, r"is int32 \[3\], but .* says int32 \[4\]"),
        (lambda e: e | {"label": 1}, r"'label' of scene 0 is of type int, but .* says int32 \[\]"),
        (
            lambda e: e | {"segmentation": e["segmentation"][1:]},
            r"scene 0: .*'image' 20×30, 'segmentation' 19×30, 'depth' 20×30",
        ),
    ],
)
def test_an_example_that_is_not_what_its_source_says_is_an_error(change, message):
    source = Changed(Scenes(), change)
    with pytest.raises(RunFailed, match=message):
        EvaluationViews(source, ViewConfig(), SIZE, BATCH, range(BATCH))[0]
    loader = train(source)
    with pytest.raises(RunFailed, match=r"spec says|differs in height"):
        next(loader)
    loader.close()


@dataclasses.dataclass(frozen=True)
class Shape:
    shape: tuple


@pytest.mark.parametrize(
    "spec, message",
    [
        (dict(depth=Shape((None, None))), r"the spec of 'depth' is Shape.*; expected one of"),
        (dict(mask=MaskSpec(PARTS)), r"cannot be called 'mask'.*'segmentation' to a mask"),
        (dict(teacher_image=ImageSpec(3)), "cannot be called 'teacher_image'"),
        ({"stored/logits": TokensSpec(3)}, "cannot be called 'stored/logits'"),
        (dict(label=TokensSpec(3)), "'label' must be of LabelSpec, not TokensSpec"),
        (dict(image=ValuesSpec()), "'image' must be of ImageSpec, not ValuesSpec"),
        (dict(classes=ClassesSpec(3)), "'classes' are of 3 classes, but the source names 2"),
    ],
)
def test_a_spec_of_which_no_batch_can_be_made_is_refused_before_anything_is_read(spec, message):
    source = Scenes(**spec)
    source.read = None
    with pytest.raises(UserError, match=message):
        train(source)
    with pytest.raises(UserError, match=message):
        EvalLoader(source, DataConfig(), size=SIZE, batch_size=BATCH, put=None)


def test_a_source_without_images_is_refused():
    source = Scenes()
    source.spec = {"depth": ValuesSpec()}
    with pytest.raises(UserError, match="has no 'image', only 'depth'"):
        train(source)


def test_an_array_that_says_nothing_of_views_cannot_be_described():
    class Boxes(ArraySpec):
        dtype, shape = np.dtype(np.float32), (4,)

    with pytest.raises(TypeError, match="abstract"):
        Boxes()


def identity(array, by):
    return array


@pytest.mark.parametrize("kind, ignore, dtype", [("few", 255, "uint8"), ("many", -1, "int32")])
def test_masks_take_the_smallest_dtype_that_holds_their_numbers(kind, ignore, dtype):
    names = tuple(map(str, range(3 if kind == "few" else 300)))
    spec = MaskSpec(names, ignore=ignore)
    assert spec.dtype == dtype and (spec.missing(2) == ignore).all()
    mask = np.arange(12).reshape(3, 4).astype(dtype)
    np.testing.assert_array_equal(spec.seen(mask, identity), mask)


def test_what_marks_no_class_cannot_be_a_class():
    with pytest.raises(ValueError, match=r"ignore must be no class's number.*'sea'"):
        MaskSpec(PARTS, ignore=1)


@pytest.mark.parametrize("number", [-1, 70_000])
def test_masks_of_many_classes_keep_numbers_that_are_there(number):
    spec = MaskSpec(tuple(map(str, range(300))), ignore=number)
    mask = np.full((16, 16), 299, np.int32)
    mask[:, 8:] = number
    source = Changed(
        Scenes(),
        lambda e: {"image": np.zeros((16, 16, 3), np.uint8), "parts": mask},
        {"image": ImageSpec(3), "parts": spec},
    )
    views = TrainingViews(source, ViewConfig(), SIZE, 0, BATCH, range(BATCH))
    found = {*np.concatenate([views.example(p)["parts"].ravel() for p in range(30)]).tolist()}
    assert found == {299, number}


def test_values_are_means_of_what_is_known():
    """An independent reference: Pillow's filter, written as weights in float64."""
    rng = np.random.default_rng(0)
    values = rng.normal(10, 3, (24, 40)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[3, 4] = np.inf
    source = Changed(
        Scenes(),
        lambda e: {"image": np.zeros((24, 40, 3), np.uint8), "depth": values},
        {"image": ImageSpec(3), "depth": ValuesSpec()},
    )
    view = EvaluationView(crop=1.0, resize="squash", filter="bicubic")
    views = EvaluationViews(source, ViewConfig(), SIZE, 1, range(1), evaluation=view)
    found = views[0]["depth"]
    down, across = triangles(24), triangles(40)
    known = np.isfinite(values)
    weight = down @ known.astype(float) @ across.T
    total = down @ np.where(known, values, 0).astype(float) @ across.T
    sure = np.abs(weight - 0.5) > 1e-5
    assert sure.sum() > 60 and 5 < np.isnan(found).sum() < 60
    np.testing.assert_array_equal(np.isnan(found)[sure], (weight < 0.5)[sure])
    both = sure & (weight >= 0.5)
    np.testing.assert_allclose(found[both], (total / weight)[both], rtol=1e-5)


def triangles(count):
    """Weights [SIZE, count] of the antialiased bilinear filter."""
    scale = count / SIZE
    centres = (np.arange(SIZE) + 0.5) * scale
    distance = np.abs(np.arange(count) + 0.5 - centres[:, None]) / scale
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def test_the_nearest_pixels_are_those_around_the_middles():
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 3, (24, 40)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.NEAREST))
    rows_at, columns_at = (((np.arange(SIZE) + 0.5) * n / SIZE).astype(int) for n in (24, 40))
    expected = mask[rows_at][:, columns_at]
    np.testing.assert_array_equal(pixels, expected)
    source = Changed(
        Scenes(),
        lambda e: {"image": np.zeros((24, 40, 3), np.uint8), "parts": mask},
        {"image": ImageSpec(3), "parts": MaskSpec(PARTS)},
    )
    view = EvaluationView(crop=1.0, resize="squash")
    views = EvaluationViews(source, ViewConfig(), SIZE, 1, range(1), evaluation=view)
    np.testing.assert_array_equal(views[0]["parts"], expected)


def test_parts_of_a_source_hold_what_it_holds():
    source = Scenes()
    part = Subset(source, np.array([5, 2]))
    assert part.spec == source.spec
    for place, index in enumerate((5, 2)):
        for name, array in part.read(place).items():
            np.testing.assert_array_equal(array, source.read(index)[name])
