"""Figures of a comparison show each model's own numbers, all models in one."""

import dataclasses

import numpy as np
import pytest

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.intervals import wilson_interval
from distill.analysis.predictions import Predictions
from distill.config.tagged import labels, members
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.fairness import FairnessConfig
from distill.report import compared_figures, html
from distill.report.compared_figures import DRAWN


@pytest.fixture(autouse=True)
def drawings(monkeypatch):
    """The figures themselves, which a page embeds."""
    monkeypatch.setattr(html, "figure", lambda drawing, caption: drawing)


def named(evaluation, lines):
    """Models as a comparison has them; a file of predictions may lack an evaluation."""
    return [
        *({"name": name, "evaluations": {evaluation: line}} for name, line in lines.items()),
        {"name": "without", "evaluations": {evaluation: None}},
    ]


@pytest.fixture(scope="module")
def fair():
    lines = {}
    for number, name in enumerate(("teacher", "student")):
        rng = np.random.default_rng(number)
        labels, group = rng.integers(0, 2, 600), rng.integers(0, 3, 600).astype(str)
        scores = rng.normal(size=(600, 2)) + np.eye(2)[labels] + (group == "1")[:, None]
        predictions = Predictions(
            scores=scores,
            class_names=("no", "yes"),
            labels=labels,
            names=np.arange(600).astype(str),
            columns={"side": group},
        )
        measured = FairnessConfig(positive="yes", group="side", biases=(0.0, 0.1)).measure(
            predictions
        )
        lines[name] = {"details": measured.details, "config": {"kind": "fairness"}}
    return named("fair", lines)


@pytest.fixture(scope="module")
def humans():
    trials = [one for one in shipped_trials() if one.dataset in ("edge", "cue-conflict")]
    lines = {}
    for name, shown in {"teacher": "resnet50", "student": "simclr_resnet50x1"}.items():
        mine = [
            dataclasses.replace(one, observer="model") for one in trials if one.observer == shown
        ]
        others = [one for one in trials if one.is_human or one.observer == "resnet50"]
        found = human_alignment((*mine, *others), AlignmentConfig(resamples=20))
        lines[name] = {"details": found.as_json(), "config": {"name": "model"}}
    return named("humans", lines)


def points(axes):
    """What is drawn, by label."""
    return {
        line.get_label(): np.transpose(line.get_data())
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_a_line_for_each_model_trades_accuracy_for_parity(fair):
    drawn = points(compared_figures.trade_off(fair, "fair").axes[0])
    assert [*drawn] == ["teacher", "student"]
    for model in fair[:2]:
        debiased = model["evaluations"]["fair"]["details"]["debiased"]
        expected = sorted((one["parity_gap"], one["accuracy"]) for one in debiased)
        np.testing.assert_array_equal(drawn[model["name"]], expected)


def test_accuracies_of_groups_have_their_intervals(fair):
    axes = compared_figures.group_accuracy(fair, "fair").axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["side=0", "side=1", "side=2"]
    for container, model in zip(axes.containers, fair, strict=False):
        groups = model["evaluations"]["fair"]["details"]["before"]["hard"]["groups"]
        (across, _), bars = container[0].get_data(), container[2][0].get_segments()
        for share, bar, group in zip(across, bars, groups.values(), strict=True):
            assert share == group["accuracy"]
            low, high = wilson_interval(round(share * group["count"]), group["count"])
            np.testing.assert_allclose(bar[:, 0], [low, high])


def test_models_are_beside_people_and_those_that_come_with_the_project(humans):
    axes = compared_figures.error_consistency(humans, "humans").axes[0]
    drawn = {one.get_label(): np.transpose(one[0].get_data()) for one in axes.containers}
    assert [*drawn] == ["resnet50", "teacher", "student", "people"]
    np.testing.assert_array_equal(drawn["teacher"], drawn["resnet50"])
    for model in humans[:2]:
        (one,) = [
            one
            for one in model["evaluations"]["humans"]["details"]["models"]
            if one["name"] == "model"
        ]
        expected = [(one["accuracy"], one["error_consistency"])]
        np.testing.assert_array_equal(drawn[model["name"]], expected)


def test_shape_bias_is_drawn_by_category(humans):
    drawn = points(compared_figures.shape_bias(humans, "humans").axes[0])
    assert [*drawn] == ["resnet50", "teacher", "student", "people"]
    details = humans[1]["evaluations"]["humans"]["details"]
    each = next(one for one in details["models"] if one["name"] == "model")["cue_conflict"]
    expected = [each["per_category"][name]["shape_bias"] for name in CATEGORIES]
    np.testing.assert_array_equal(drawn["student"][:, 0], expected)


def test_without_cue_conflict_there_is_no_shape_bias(humans):
    edges = []
    for model in humans[:1]:
        details = model["evaluations"]["humans"]["details"]
        people = details["humans"] | {"cue_conflict": None}
        line = model["evaluations"]["humans"] | {"details": details | {"humans": people}}
        edges.append({"name": model["name"], "evaluations": {"humans": line}})
    assert compared_figures.shape_bias(edges, "humans") == ""


def test_kinds_that_are_drawn_are_kinds_of_evaluations():
    assert DRAWN.keys() <= {labels(one)["kind"] for one in members(EvaluationConfig)}
