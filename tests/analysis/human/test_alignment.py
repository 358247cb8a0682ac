"""Figures over all sets are the published ones."""

import dataclasses
import json
from statistics import fmean

import numpy as np
import pytest
from human_reference import FIGURES, set_figures

from distill.analysis.human.alignment import INTERVALS, AlignmentConfig, human_alignment
from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.collection import collect, read_collection
from distill.analysis.human.datasets import DATASETS
from distill.analysis.human.trials import write_trials
from distill.errors import UserError

NO_INTERVALS = AlignmentConfig(resamples=0)


def some(*datasets, observers=None):
    return [
        one
        for one in shipped_trials()
        if one.dataset in datasets and (observers is None or one.observer in observers)
    ]


@pytest.mark.parametrize(
    ("observer", "expected", "shape_bias"),
    [
        ("resnet50", (0.5588, 0.0872, 0.6649, 0.2083), 0.2142),
        ("simclr_resnet50x1", (0.5957, 0.0803, 0.6668, 0.1792), 0.3879),
        ("humans", (0.7228, 0.0066, 0.8085, 0.4312), 0.9587),
    ],
)
def test_figures_are_the_published_ones(observer, expected, shape_bias, alignment):
    observers = {one.name: one for one in (*alignment.models, alignment.humans)}
    found = observers[observer]
    assert tuple(round(value, 4) for value in found.overall) == expected
    assert round(found.shape_bias.value, 4) == shape_bias


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_figure_of_a_set_is_that_of_plain_python(dataset, alignment, raw_data):
    for one in (*alignment.models, alignment.humans):
        expected = set_figures(raw_data / dataset, one.name)
        assert one.by_dataset[dataset]._asdict() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("variant", "wrong"),
    [
        (dict(keep_all=True), (0.5276, 0.0786, 0.7064, 0.1756)),
        (dict(pool=True), (0.5588, 0.0795, 0.6649, 0.2787)),
    ],
)
def test_other_ways_to_average_give_other_figures(variant, wrong, raw_data, monkeypatch):
    """Conditions kept that are to be left out; trials pooled over conditions."""
    per_set = [set_figures(raw_data / name, "resnet50", **variant) for name in DATASETS]
    plain = tuple(round(fmean(one[figure] for one in per_set), 4) for figure in FIGURES)
    assert plain == wrong
    trials = [one for one in shipped_trials() if one.observer != "simclr_resnet50x1"]
    for name, dataset in DATASETS.items():
        if "keep_all" in variant:
            monkeypatch.setitem(DATASETS, name, dataclasses.replace(dataset, left_out=()))
    if "pool" in variant:
        from distill.analysis.human import alignment as module

        align = module.align

        def pooled(dataset, some):
            answers = align(dataset, some)
            return dataclasses.replace(answers, conditions=np.zeros_like(answers.conditions))

        monkeypatch.setattr(module, "align", pooled)
    [found] = human_alignment(trials, NO_INTERVALS).models
    assert tuple(round(value, 4) for value in found.overall) == wrong


def test_intervals_are_the_same_for_the_same_seed_whatever_else_is_compared():
    config = AlignmentConfig(resamples=50)
    alone = human_alignment(some("edge"), config)
    beside = human_alignment(some("edge", "silhouette", "colour"), config)
    drop = human_alignment([one for one in some("edge") if one.observer != "resnet50"], config)
    assert alone == human_alignment(some("edge"), config)
    assert alone.models[1].intervals == drop.models[0].intervals
    assert alone.models != human_alignment(some("edge"), dataclasses.replace(config, seed=1)).models
    assert beside.models[0].intervals != alone.models[0].intervals


def test_each_set_has_draws_of_its_own():
    copied = [dataclasses.replace(one, dataset="silhouette") for one in some("edge")]
    config = AlignmentConfig(resamples=50)
    one, other = (human_alignment(found, config).humans for found in (some("edge"), copied))
    assert one.by_dataset["edge"] == other.by_dataset["silhouette"]
    assert one.intervals != other.intervals


def test_intervals_hold_the_figure_and_narrow_with_confidence():
    wide = human_alignment(some("cue-conflict"), AlignmentConfig(resamples=300))
    narrow = human_alignment(some("cue-conflict"), AlignmentConfig(resamples=300, confidence=0.5))
    for one, other in zip(
        (*wide.models, wide.humans), (*narrow.models, narrow.humans), strict=True
    ):
        assert set(one.intervals) == set(INTERVALS)
        figures = one.overall._asdict() | {"shape_bias": one.shape_bias.value}
        for name, (low, high) in one.intervals.items():
            assert low < other.intervals[name][0] < other.intervals[name][1] < high
            assert low < figures[name] < high


def test_an_interval_of_accuracy_is_as_wide_as_the_binomials():
    [model] = human_alignment(
        some("sketch", observers={"resnet50", "subject-01"}), AlignmentConfig(resamples=2000)
    ).models
    accuracy = model.overall.accuracy
    low, high = model.intervals["accuracy"]
    assert high - low == pytest.approx(
        2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 800), rel=0.08
    )


def test_what_is_undefined_is_none(tmp_path):
    one_person = some("edge", observers={"resnet50", "subject-01"})
    found = human_alignment(one_person, AlignmentConfig(resamples=20))
    assert found.humans.overall[0] is not None
    assert found.humans.overall[1:] == (None, None, None)
    assert set(found.humans.intervals) == {"accuracy"}
    assert found.models[0].shape_bias is None
    assert found.models[0].overall.error_consistency is not None
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["humans"]["error_consistency"] is None


def test_a_model_that_never_names_shape_or_texture_has_no_shape_bias():
    [model, *people] = sorted(
        some("cue-conflict", observers={"resnet50", "subject-01"}), key=lambda one: one.is_human
    )
    silent = dataclasses.replace(model, answers=np.full(1280, -1, np.int8))
    found = human_alignment([silent, *people], AlignmentConfig(resamples=20)).models[0]
    assert found.shape_bias.value is None
    assert found.shape_bias.mean_over_categories is None
    assert "shape_bias" not in found.intervals
    assert found.as_json()["shape_bias"] is None


def test_a_model_may_be_called_humans():
    model, *people = sorted(
        some("edge", observers={"resnet50", "subject-01", "subject-02"}),
        key=lambda one: one.is_human,
    )
    expected = human_alignment([model, *people], NO_INTERVALS)
    found = human_alignment([dataclasses.replace(model, observer="humans"), *people], NO_INTERVALS)
    assert found.humans == expected.humans
    assert found.models[0].by_dataset == expected.models[0].by_dataset


def test_nothing_to_compare_is_refused():
    with pytest.raises(UserError, match="no trials to compare"):
        human_alignment([], NO_INTERVALS)


def test_a_set_without_people_names_the_file():
    with pytest.raises(UserError, match="the trials of resnet50 with edge: nobody's trials"):
        human_alignment(some("edge", observers={"resnet50"}), NO_INTERVALS)


@pytest.mark.parametrize(
    "wrong", [dict(resamples=-1), dict(confidence=0.0), dict(confidence=1.0), dict(seed=-1)]
)
def test_a_config_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AlignmentConfig(**wrong)


def test_people_and_models_that_come_with_the_project_stand_beside_ones_own():
    own = [
        dataclasses.replace(one, observer="mine")
        for one in some("edge", "silhouette", observers={"resnet50"})
    ]
    found = collect(own)
    assert found.references == ("resnet50", "simclr_resnet50x1")
    assert found.own_humans == ()
    assert {one.dataset for one in found.trials} == {"edge", "silhouette"}
    assert "mine: its means are over 2 of 17 sets" in found.notes[0]
    result = human_alignment(found.trials, NO_INTERVALS)
    by_name = {one.name: one for one in result.models}
    assert by_name["mine"].overall == by_name["resnet50"].overall
    assert len(result.as_json()["models"][0]["datasets_missing"]) == 15


def test_ones_own_people_and_models_take_the_place_of_those_of_the_project(tmp_path):
    write_trials(tmp_path, some("edge", observers={"resnet50", "subject-01", "subject-02"}))
    write_trials(tmp_path, some("silhouette", observers={"resnet50"}))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "old.csv").touch()
    found = read_collection(tmp_path)
    people = [one.dataset for one in found.trials if one.is_human]
    assert (people.count("edge"), people.count("silhouette")) == (2, 10)
    assert sum(one.observer == "resnet50" for one in found.trials) == 2
    assert found.references == ("simclr_resnet50x1",)
    assert found.own_humans == ("edge",)
    assert any("notes is left out: it is none of the sets" in note for note in found.notes)
    with_all = human_alignment(collect(some("edge", observers={"resnet50"})).trials, NO_INTERVALS)
    assert (
        human_alignment(found.trials, NO_INTERVALS).humans.by_dataset["edge"]
        != (with_all.humans.by_dataset["edge"])
    )
