"""Training views to evaluate on: the same each time, and never those of training."""

import itertools

import numpy as np
import pytest
from support import Damaged

from distill.data import DataConfig, Subset, ViewConfig, open_source
from distill.data.examples import EVALUATION_EPOCH, TrainingViews
from distill.data.views import generator, training_view
from distill.evaluate.features import split_loader, training_view_loader
from distill.parallel import MeshConfig, make_mesh

COUNT, BATCH, SEED = 21, 8, 3
DATA = DataConfig(threads=1, view=ViewConfig(crop_area=(0.3, 0.6)), max_corrupt_share=0.5)


@pytest.fixture(scope="module")
def source():
    return Subset(open_source("digits", "train", channels=1), np.arange(COUNT))


def loader(source, seed=SEED, **limit):
    mesh = make_mesh(MeshConfig())
    return training_view_loader(source, DATA, mesh, size=8, batch_size=BATCH, seed=seed, **limit)


def read(batches):
    """All batches as one, without padding."""
    whole = [{name: np.asarray(value) for name, value in batch.items()} for batch in batches]
    whole = {name: np.concatenate([batch[name] for batch in whole]) for name in whole[0]}
    return {name: value[whole["mask"]] for name, value in whole.items()}


def test_views_are_those_of_their_keys(source):
    found = read(loader(source))
    keys = [generator(SEED, EVALUATION_EPOCH, i) for i in range(COUNT)]
    expected = [training_view(source.read(i)["image"], 8, DATA.view, keys[i]) for i in range(COUNT)]
    np.testing.assert_array_equal(found["image"], np.stack(expected))
    assert found["label"].tolist() == source.labels.tolist()


def test_every_evaluation_sees_the_same_and_another_seed_others(source):
    batches = loader(source)
    first, second = read(batches), read(batches)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["image"], read(loader(source, seed=4))["image"])


def test_none_is_a_view_of_training(source):
    found = read(loader(source))
    views = TrainingViews(
        source=source, view=DATA.view, size=8, seed=SEED, batch_size=COUNT, rows=range(COUNT)
    )
    for example in itertools.islice(map(views.example, itertools.count()), 5 * COUNT):
        assert not np.array_equal(example["image"], found["image"][example["index"]])
    # Nor is it one later on: the last position's epoch comes before.
    assert EVALUATION_EPOCH > 2**62


def test_batches_are_padded_as_those_of_other_evaluations(source):
    ours = list(loader(source))
    others = list(split_loader(source, DATA, make_mesh(MeshConfig()), size=8, batch_size=BATCH))
    assert len(ours) == len(others) == 3
    for one, other in zip(ours, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert (one[name].shape, one[name].dtype) == (other[name].shape, other[name].dtype)
            if name != "image":
                np.testing.assert_array_equal(one[name], other[name])
    assert not np.any(ours[-1]["image"][COUNT % BATCH :])


def test_of_many_images_a_sample_from_all_over_is_taken(source):
    found = read(loader(source, limit=5))
    assert found["label"].tolist() == source.labels[[0, 4, 8, 12, 16]].tolist()
    assert len(read(loader(source, limit=COUNT))["label"]) == COUNT


def test_a_sample_of_images_sorted_by_class_has_all_classes():
    digits = open_source("digits", "train", channels=1)
    by_class = Subset(digits, np.argsort(digits.labels, kind="stable"))
    found = read(loader(by_class, limit=50))
    assert np.bincount(found["label"], minlength=10).min() >= 4


def test_corrupt_images_do_not_count(source):
    found = read(loader(Damaged(source, {0, 7})))
    assert found["index"].tolist() == [i for i in range(COUNT) if i not in (0, 7)]
