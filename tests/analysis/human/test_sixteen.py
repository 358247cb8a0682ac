"""A model's classes become the 16 categories."""

import numpy as np
import pytest

from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.human.sixteen import answers, decide, imagenet_members, members
from distill.analysis.predictions import Predictions
from distill.errors import UserError

COUNTS = (1, 4, 2, 49, 5, 7, 3, 6, 4, 3, 109, 2, 2, 1, 1, 8)
IMAGENET = tuple(f"class {number}" for number in range(1000))


def predictions(scores, class_names, scale="logits"):
    count = len(scores)
    return Predictions(
        scores=np.asarray(scores, np.float64),
        scale=scale,
        class_names=tuple(class_names),
        labels=np.full(count, -1),
        names=np.array([f"{number}.png" for number in range(count)]),
    )


def wnids():
    """ImageNet's names by WordNet id, those of no category made up."""
    names = [f"n{number:08d}" for number in range(1000)]
    for of_category in imagenet_members().values():
        for wnid, number in of_category.items():
            names[number] = wnid
    return names


def test_each_category_has_its_imagenet_classes_and_none_is_in_two():
    assert tuple(imagenet_members()) == CATEGORIES
    numbers = [n for one in imagenet_members().values() for n in one.values()]
    assert tuple(map(len, imagenet_members().values())) == COUNTS
    assert len(set(numbers)) == len(numbers) == 207
    assert imagenet_members()["airplane"] == {"n02690373": 404}
    # ImageNet's order is that of its WordNet ids.
    order = sorted((n, w) for one in imagenet_members().values() for w, n in one.items())
    assert [wnid for _, wnid in order] == sorted(wnid for _, wnid in order)


def test_a_category_has_the_mean_probability_of_its_classes():
    logits = np.random.default_rng(0).normal(size=(50, 1000), scale=3)
    found = answers(predictions(logits, IMAGENET))
    for row, answer in zip(logits, found, strict=True):
        weights = [float(np.exp(value)) for value in row]
        means = {
            category: sum(weights[n] for n in of.values()) / len(of) / sum(weights)
            for category, of in imagenet_members().items()
        }
        assert CATEGORIES[answer] == max(means, key=means.get)


def test_neither_the_sum_nor_the_highest_decides():
    probabilities = np.full((1, 1000), 1e-9)
    dogs = [*imagenet_members()["dog"].values()]
    # The sum of dogs is 0.5, their highest 0.3, their mean below that of the airplane's one class.
    probabilities[0, dogs] = 0.2 / len(dogs)
    probabilities[0, dogs[0]] += 0.3
    probabilities[0, 404] = 0.1
    probabilities[0, 0] = 0.4
    probabilities /= probabilities.sum()
    assert (
        CATEGORIES[answers(predictions(probabilities, IMAGENET, "probabilities"))[0]] == "airplane"
    )


def test_of_equal_categories_the_last_is_taken():
    assert CATEGORIES[answers(predictions(np.zeros((1, 1000)), IMAGENET))[0]] == "truck"
    tied = np.zeros((1, 16))
    tied[0, [2, 7]] = 1.0
    assert answers(predictions(tied, CATEGORIES)).tolist() == [7]
    backwards = CATEGORIES[::-1]
    assert answers(predictions(tied[:, ::-1], backwards)).tolist() == [7]


def test_classes_are_found_by_name_in_any_order():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(20, 1000), scale=3)
    order = generator.permutation(1000)
    names = wnids()
    expected = answers(predictions(logits, IMAGENET))
    assert answers(predictions(logits, names)).tolist() == expected.tolist()
    shuffled = answers(predictions(logits[:, order], [names[n] for n in order]))
    assert shuffled.tolist() == expected.tolist()
    own = generator.permutation(16)
    given = answers(predictions(np.eye(16), [CATEGORIES[n] for n in own]))
    assert given.tolist() == own.tolist()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (CATEGORIES[:15], "the model has 15 classes, such as 'airplane'; expected ImageNet's 1000"),
        ((*CATEGORIES[:15], "lorry"), "the model has 16 classes"),
        ((*CATEGORIES[:15], "oven"), "the model has 16 classes"),
        (["x", *wnids()[:404], *wnids()[405:]], "classes lack n02690373"),
    ],
)
def test_other_classes_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        members(names)


def test_an_answer_is_a_code_of_the_categories():
    classes = tuple(np.array([number]) for number in range(16))
    assert decide(np.eye(16), classes).dtype == np.int8
    assert decide(np.eye(16), classes).tolist() == list(range(16))
