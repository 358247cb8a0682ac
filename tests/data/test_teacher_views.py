"""What a teacher sees of a training image: the student's view, one of its own, or a clean one."""

import numpy as np
import pytest

from distill.data import DataConfig, Subset, TrainLoader, ViewConfig, open_source
from distill.data.examples import TrainingViews
from distill.data.sources import CorruptImage
from distill.data.views import evaluation_view, training_view
from distill.evaluation_view import EvaluationView

SEED, SIZE, COUNT = 5, 8, 12


@pytest.fixture(scope="module")
def source(image_folder):
    whole = open_source(f"folder:{image_folder}", "train", channels=3)
    return Subset(whole, np.arange(0, 24, 2))


def examples(source, teacher_view, positions):
    data = TrainingViews(source, ViewConfig(), SIZE, SEED, 4, range(4), teacher_view=teacher_view)
    return [data.example(position) for position in positions]


def test_a_teacher_that_sees_the_same_adds_nothing(source):
    (example,) = examples(source, "same", [0])
    assert example.keys() == {"image", "label", "index", "mask", "skipped"}


@pytest.mark.parametrize("teacher_view", ["independent", "fixed"])
def test_the_student_sees_what_it_sees_without(source, teacher_view):
    positions = range(2 * COUNT)
    alone = examples(source, "same", positions)
    for with_teacher, without in zip(examples(source, teacher_view, positions), alone, strict=True):
        assert with_teacher.keys() - without.keys() == {"teacher_image"}
        assert all(np.array_equal(with_teacher[name], without[name]) for name in without)


def test_an_independent_view_is_drawn_from_the_second_generator_of_the_image(source):
    for position, example in enumerate(examples(source, "independent", range(2 * COUNT))):
        index = int(example["index"])
        rng = np.random.default_rng([SEED, position // COUNT, index, 1])
        expected = training_view(source.read(index)["image"], SIZE, ViewConfig(), rng)
        np.testing.assert_array_equal(example["teacher_image"], expected)
        assert not np.array_equal(example["teacher_image"], example["image"])


def test_a_fixed_view_is_the_evaluation_view_in_every_epoch(source):
    for example in examples(source, "fixed", range(2 * COUNT)):
        image = source.read(int(example["index"]))["image"]
        expected = evaluation_view(image, SIZE, EvaluationView())
        np.testing.assert_array_equal(example["teacher_image"], expected)


def test_the_image_that_stands_in_for_a_corrupt_one_is_the_teachers_too(source):
    class Damaged(Subset):
        def read(self, index):
            if index % 2:
                raise CorruptImage("truncated")
            return super().read(index)

    damaged = Damaged(source, np.arange(COUNT))
    found = examples(damaged, "fixed", range(COUNT))
    assert sum(int(example["skipped"] >= 0) for example in found) == COUNT // 2
    for example in found:
        image = source.read(int(example["index"]))["image"]
        expected = evaluation_view(image, SIZE, EvaluationView())
        np.testing.assert_array_equal(example["teacher_image"], expected)


@pytest.mark.parametrize("teacher_view", ["independent", "fixed"])
def test_batches_hold_the_teachers_views(source, teacher_view):
    loader = TrainLoader(
        source,
        DataConfig(),
        size=SIZE,
        batch_size=4,
        seed=SEED,
        put=lambda batch: batch,
        rows=(1, 2),
        teacher_view=teacher_view,
    )
    batch = next(loader)
    loader.close()
    expected = [e["teacher_image"] for e in examples(source, teacher_view, (1, 2))]
    assert batch["teacher_image"].dtype == np.uint8
    np.testing.assert_array_equal(batch["teacher_image"], expected)


def test_an_unknown_teacher_view_is_refused(source):
    with pytest.raises(ValueError, match="teacher_view must be one of 'same', 'independent'"):
        examples(source, "other", [0])
