"""What is asked of features, and what is computed for it."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from support import Damaged, Unlabelled

from distill.config import describe
from distill.data import DataConfig, Subset, open_source
from distill.data.sources import CorruptImage
from distill.errors import RunFailed, UserError
from distill.evaluate.features import Features
from distill.evaluate.fewshot import draw_shots, drawing_orders, fit_ridge
from distill.evaluate.transfer import TransferConfig, TransferEvaluator, short_name
from distill.evaluate.transfer_task import TransferTask
from distill.parallel import MeshConfig, make_mesh
from distill.train.run import RunConfig
from distill.train.state import init_params
from students import vit

DATA = DataConfig(threads=1)
COUNTS = {"train": 1197, "test": 360}


def digits(split):
    return open_source("digits", split, channels=1)


class Embedder:
    """Embeds images as their pixels and counts them."""

    def __init__(self):
        self.counts = []

    def __call__(self, source):
        self.counts.append(len(source))
        whole = {"embedding": [], "label": [], "index": []}
        for index in range(len(source)):
            try:
                image, label = source.read(index).values()
            except CorruptImage:
                continue
            for name, value in zip(whole, (image.ravel(), label, index), strict=True):
                whole[name].append(value)
        return Features(
            np.asarray(whole["embedding"], np.float32).reshape(-1, 64) / 255,
            np.asarray(whole["label"], np.int32),
            np.asarray(whole["index"], np.int64),
        )


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig())


def named(scores):
    return {"/".join(name): value for name, value in scores.items()}


def test_scores_are_those_of_scikit_learn(mesh):
    config = TransferConfig(shots=(5,), seeds=(3,), neighbours=(1,), probe=True)
    embed = Embedder()
    task = TransferTask(config, digits("train"), digits("test"))
    found = named(task.evaluate(embed, mesh))
    assert sorted(embed.counts) == sorted(COUNTS.values())  # each image once
    train, test = Embedder()(digits("train")), Embedder()(digits("test"))

    rng = np.random.default_rng(3)
    drawn = [rng.permutation(np.flatnonzero(train.label == c))[:5] for c in range(10)]
    x, y = train.embedding[np.concatenate(drawn)], np.repeat(np.eye(10), 5, axis=0) * 2 - 1
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-5
    x, z = (np.c_[(f - mean) / std, np.full(len(f), 100.0)] for f in (x, test.embedding))
    scores = Ridge(alpha=1024, fit_intercept=False, solver="svd").fit(x, y).predict(z)
    fewshot = np.mean(scores.argmax(axis=-1) == test.label)

    knn = KNeighborsClassifier(1, metric="cosine").fit(train.embedding, train.label)
    mean, std = train.embedding.mean(axis=0), train.embedding.std(axis=0) + 1e-5
    x, z = ((f - mean) / std for f in (train.embedding, test.embedding))
    logistic = LogisticRegression(C=1 / (found["probe/l2"] * 1197), tol=1e-6, max_iter=10_000)
    expected = {
        "fewshot/5": fewshot,
        "fewshot/5/seed3": fewshot,
        "knn/1": knn.score(test.embedding, test.label),
        "probe/accuracy": logistic.fit(x, train.label).score(z, test.label),
        "probe/l2": found["probe/l2"],
    }
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0.5 < fewshot < expected["probe/accuracy"] < 1


def test_only_drawn_images_are_embedded_if_nothing_needs_the_others(mesh):
    asked = dict(shots=(1, 4), seeds=(0, 1))
    embed = Embedder()
    task = TransferTask(TransferConfig(**asked), digits("train"), digits("test"))
    found = named(task.evaluate(embed, mesh))
    test_images, drawn = embed.counts
    assert test_images == 360
    assert 40 < drawn <= 80  # 4 of each of 10 classes, twice
    # And the figures are those of drawing among all features.
    more = TransferConfig(**asked, neighbours=(1,))
    again = named(TransferTask(more, digits("train"), digits("test")).evaluate(Embedder(), mesh))
    assert found == {name: value for name, value in again.items() if name != "knn/1"}
    for shots in ("1", "4"):
        seeds = [found[f"fewshot/{shots}/seed{seed}"] for seed in (0, 1)]
        assert found[f"fewshot/{shots}"] == pytest.approx(np.mean(seeds))
        assert seeds[0] != seeds[1]


@pytest.mark.parametrize("neighbours", [(), (1,)])
def test_others_of_their_class_stand_in_for_drawn_images_that_are_corrupt(neighbours, mesh):
    train = digits("train")
    orders = drawing_orders(train.labels, 10, seed=0)
    damaged = {orders[0][0], orders[0][2]}
    readable = np.array([index not in damaged for index in range(1197)])
    drawn = draw_shots(orders, 2, train.class_names, readable)
    assert drawn[:2].tolist() == [orders[0][1], orders[0][3]]
    whole, test = Embedder()(train), Embedder()(digits("test"))
    expected = fit_ridge(whole.embedding[drawn], whole.label[drawn], 10, 1024.0)

    config = TransferConfig(shots=(2,), seeds=(0,), neighbours=neighbours)
    task = TransferTask(config, Damaged(train, damaged), digits("test"))
    found = named(task.evaluate(Embedder(), mesh))
    assert found["fewshot/2"] == expected.accuracy(test.embedding, test.label)


@pytest.mark.parametrize("probe", [True, False])
def test_images_without_a_label_are_neither_learnt_from_nor_classified(probe, mesh, caplog):
    train, test = digits("train"), digits("test")
    config = TransferConfig(shots=(3,), seeds=(0,), probe=probe, neighbours=(5,) if probe else ())
    learnt, classified = np.arange(300), np.arange(7, 30)
    # Of these sources some images are not there at all.
    rest = [
        Subset(source, np.setdiff1d(np.arange(len(source)), without))
        for source, without in ((train, learnt), (test, classified))
    ]
    unlabelled = TransferTask(config, Unlabelled(train, learnt), Unlabelled(test, classified))
    expected = TransferTask(config, *rest).evaluate(Embedder(), mesh)
    assert unlabelled.evaluate(Embedder(), mesh) == pytest.approx(expected)
    assert list(expected) == unlabelled.metrics
    assert unlabelled.counted == (360 - 23, 1197 - 300)
    left_out = "lack a label: left out of the evaluation of features"
    assert sorted(caplog.messages) == [
        f"23 of 360 images to classify {left_out}",
        f"300 of 1,197 images to learn from {left_out}",
    ]


def test_where_no_image_to_classify_has_a_label_nothing_is_found(mesh, caplog):
    config = TransferConfig(shots=(3,), probe=True)
    test = Unlabelled(digits("test"), np.arange(360))
    assert TransferTask(config, digits("train"), test).evaluate(Embedder(), mesh) == {}
    assert "fewshot, probe missing: no image to classify" in caplog.text


def test_where_no_image_to_learn_from_has_a_label_is_an_error(mesh):
    config = TransferConfig(shots=(), probe=True)
    train = Unlabelled(digits("train"), np.arange(1197))
    with pytest.raises(UserError, match="none of 1,197 images to learn from"):
        TransferTask(config, train, digits("test")).evaluate(Embedder(), mesh)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "asked", [dict(shots=(2,)), dict(shots=(), neighbours=(3,)), dict(shots=(), probe=True)]
)
def test_nothing_is_made_of_features_that_are_not_finite(asked, split, value, mesh):
    class Broken(Embedder):
        def __call__(self, source):
            found = super().__call__(source)
            if (len(source) == COUNTS["test"]) == (split == "test"):
                found.embedding[11, 5] = value
            return found

    task = TransferTask(TransferConfig(**asked), digits("train"), digits("test"))
    with pytest.raises(RunFailed, match=r"the features of image \d+ of \d+ are not finite"):
        task.evaluate(Broken(), mesh)


def test_too_few_images_are_found_out_before_anything_is_computed():
    with pytest.raises(UserError, match="200 images of every class"):
        TransferTask(TransferConfig(shots=(1, 200)), digits("train"), digits("test"))
    with pytest.raises(UserError, match="2000 neighbours asked for among 1197"):
        TransferTask(TransferConfig(neighbours=(20, 2000)), digits("train"), digits("test"))


@pytest.fixture(scope="module")
def network(mesh):
    shape = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=8, channels=3, num_classes=2)
    return vit.build(vit.configure("mu/4", **shape)).placed(mesh)


def evaluator(network, data=DATA, **asked):
    return TransferEvaluator(TransferConfig(**asked), data, network, batch_size=64)


def test_metrics_carry_the_sources_name_if_there_are_several(network, image_folder):
    params = init_params(network, seed=0)
    asked = dict(shots=(1,), seeds=(0,), neighbours=(2,))
    folder = f"folder:{image_folder}"
    both = evaluator(network, sources=("digits", folder), **asked)(params)
    name = image_folder.name
    assert list(both) == [
        *("fewshot/digits/1", "fewshot/digits/1/seed0", "knn/digits/2"),
        *(f"fewshot/{name}/1", f"fewshot/{name}/1/seed0", f"knn/{name}/2"),
    ]
    one = evaluator(network, sources=(folder,), **asked)(params, frozen=None)
    assert one == {metric.replace(f"{name}/", ""): both[metric] for metric in list(both)[3:]}


def opened(network, data, **asked):
    (task,) = evaluator(network, data, shots=(), neighbours=(1,), **asked).tasks.values()
    return task.train, task.test


def test_the_runs_own_data_and_classes_are_the_default(network):
    data = DataConfig(classes=("1", "7"), train_split="test")
    train, test = opened(network, data)
    assert train.class_names == test.class_names == ("1", "7")
    assert all("digits image" in part.describe(0) for part in (train, test))
    whole = [data.open(split, channels=3) for split in ("test", "validation")]
    assert [len(train), len(test)] == [len(part) for part in whole]


def test_other_classes_and_splits_may_be_asked_for(network):
    data = DataConfig(classes=("1", "7"))
    train, test = opened(network, data, classes=("9", "8"), train_split="test", test_split="train")
    assert train.class_names == ("9", "8")
    assert len(train) < len(test)
    # A source that is named is not the run's own: all its classes count.
    assert len(opened(network, data, sources=("digits",))[0].class_names) == 10


def test_few_images_to_train_on_are_few_to_learn_from_unless_others_are_asked_for(network):
    data = DataConfig(train_images=30)
    assert len(opened(network, data)[0]) == 30
    assert len(opened(network, data, train_split="validation", test_split="test")[0]) == 240
    assert len(opened(network, data, sources=("digits",))[0]) == 1197


def test_without_a_validation_split_the_test_split_is_classified(network):
    _, test = opened(network, DataConfig(validation_split=None))
    assert len(test) == 360
    with pytest.raises(UserError, match=r"transfer\.test_split"):
        opened(network, DataConfig(validation_split=None, test_split=None))


@pytest.mark.parametrize(
    "source, name",
    [
        ("digits", "digits"),
        ("folder:/data/flowers", "flowers"),
        ("folder:/data/flowers/", "flowers"),
        ("tfds:oxford_iiit_pet:3.2.0", "oxford_iiit_pet"),
        ("tfds:vtab/pets", "vtab_pets"),
    ],
)
def test_sources_are_called_by_the_last_part_of_their_name(source, name):
    assert short_name(source) == name


@pytest.mark.parametrize(
    "asked, message",
    [
        (dict(shots=()), "nothing to evaluate"),
        (dict(shots=(5, 0)), "shots must be a whole number from 1 to 1,000,000, not 0"),
        (dict(shots=(5, 5)), "shots must name each once, not 5 twice"),
        (dict(neighbours=(-1,)), "neighbours must be a whole number from 1"),
        (dict(seeds=()), "seeds are none"),
        (dict(seeds=(0, -1)), "seeds must be a whole number from 0"),
        (dict(l2=0.0), "l2 must be a number from 1e-18"),
        (dict(every=0), "every must be a whole number from 1"),
        (dict(classes=("a", "a")), "classes must name each once, not 'a' twice"),
        (dict(sources=("folder:/a/x", "folder:/b/x")), "sources must differ in their last parts"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        TransferConfig(**asked)


def test_training_offers_every_choice():
    keys = {key for key, *_ in describe(RunConfig)}
    fields = {field.name for field in dataclasses.fields(TransferConfig)}
    assert fields and {f"config.transfer.{name}" for name in fields} <= keys
