"""A model's predictions on the benchmark's images become its trials."""

import numpy as np
import pytest

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.collection import collect
from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.human.model_trials import model_trials
from distill.analysis.human.trials import read_trials, write_trials
from distill.analysis.predictions import Predictions
from distill.errors import UserError

COLOUR = "0001_cl_dnn_cr_oven_40_n04111531_14126.png"


def predictions(names, given=None):
    """Of a model of the 16 categories, that answers `given`."""
    codes = np.arange(len(names)) % 16 if given is None else np.asarray(given)
    return Predictions(
        scores=np.eye(16)[codes],
        class_names=CATEGORIES,
        labels=np.full(len(names), -1),
        names=np.array(names),
    )


def shipped(*datasets):
    return [
        one for one in shipped_trials() if one.observer == "resnet50" and one.dataset in datasets
    ]


def test_a_models_files_are_those_of_the_toolbox(tmp_path):
    published = shipped("colour", "edge", "sketch")
    names, given = [], []
    for one in published:
        for category, image, answer in zip(one.categories, one.images, one.answers, strict=True):
            folder = CATEGORIES[category] if one.dataset == "edge" else "dnn/session-1"
            names.append(f"{one.dataset}/{folder}/{image}")
            given.append(answer)
    order = np.random.default_rng(0).permutation(len(names))
    shuffled = predictions([names[n] for n in order], [given[n] for n in order])
    files = write_trials(tmp_path / "ours", model_trials(shuffled, "resnet50"))
    expected = write_trials(tmp_path / "theirs", published)
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in expected]


@pytest.mark.parametrize("prefix", ["edge/", ""])
def test_names_may_begin_below_a_sets_folder(prefix):
    found = predictions([f"{prefix}dog/dog1.png", f"{prefix}cat/cat1.png"], [10, 0])
    [trials] = model_trials(found, "m", "edge")
    assert trials.images == ("cat1.png", "dog1.png")
    assert trials.answers.tolist() == [0, 10]
    assert trials.categories.tolist() == [7, 10]
    assert trials.conditions == ("NaN", "NaN")


def test_sessions_are_numbered_apart_and_written_apart(tmp_path):
    names = [
        f"dnn/session-{n}/{COLOUR.replace('0001', f'{k:04d}')}" for n in (2, 1) for k in (1, 2)
    ]
    [trials] = model_trials(predictions(names), "a_b", "colour")
    assert trials.sessions.tolist() == [1, 1, 2, 2]
    assert trials.numbers.tolist() == [1, 2, 1, 2]
    assert trials.conditions == ("cr",) * 4
    files = write_trials(tmp_path, [trials])
    assert [file.name for file in files] == [
        "colour_a-b_session-1.csv",
        "colour_a-b_session-2.csv",
    ]
    assert {read_trials(file).observer for file in files} == {"a_b"}


def test_a_model_with_the_published_answers_has_the_published_figures():
    [published] = shipped("silhouette")
    names = [
        f"{CATEGORIES[category]}/{image}"
        for category, image in zip(published.categories, published.images, strict=True)
    ]
    own = model_trials(predictions(names, published.answers), "mine", "silhouette")
    result = human_alignment(collect(own).trials, AlignmentConfig(resamples=0))
    by_name = {one.name: one for one in result.models}
    assert by_name["mine"].by_dataset == by_name["resnet50"].by_dataset


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("dog/dog1.png", None, r"the image dog/dog1.png, row 1 .* in no folder of a set"),
        ("edges/dog/dog1.png", None, "in no folder of a set"),
        ("edge/wolf/dog1.png", None, r"the image wolf/dog1.png of edge, row 1 .* its category"),
        ("edge/dog1.png", None, "does not say its category"),
        ("colour/dog/dog1.png", None, "does not say its category"),
        ("colour/dnn/session-1/dog1.png", None, "does not say its category"),
        (
            f"colour/dnn/session-1/{COLOUR.replace('oven', 'wok')}",
            None,
            "does not say its category",
        ),
        ("silhouette/dog/dog1.png", "edge", "does not say its category"),
        ("dog/dog1.png", "edges", "there is no set 'edges'; expected one of colour"),
    ],
)
def test_a_name_that_says_no_category_is_refused(name, dataset, message):
    with pytest.raises(UserError, match=message):
        model_trials(predictions([name]), "m", dataset)


@pytest.mark.parametrize("model", ["", "subject-07"])
def test_a_model_has_no_persons_name(model):
    with pytest.raises(UserError, match="which is a person's name"):
        model_trials(predictions(["edge/dog/dog1.png"]), model)


def test_missing_images_are_told_when_figures_are_asked_for():
    own = model_trials(predictions(["edge/dog/dog1.png"]), "mine")
    with pytest.raises(UserError, match=r"predictions of mine: mine has 1 of 160 trials"):
        human_alignment(collect(own).trials, AlignmentConfig(resamples=0))
