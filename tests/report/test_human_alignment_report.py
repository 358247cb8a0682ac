"""The page of models beside people shows what was found."""

import numpy as np
import pytest

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.datasets import CATEGORIES
from distill.report.human_alignment import (
    draw_consistency,
    draw_sets,
    draw_shape_bias,
    write_alignment_report,
)
from distill.report.human_table import HEADER, alignment_rows, explanations


def found(*datasets, resamples=20):
    trials = [one for one in shipped_trials() if one.dataset in datasets]
    return human_alignment(trials, AlignmentConfig(resamples=resamples))


@pytest.fixture(scope="module")
def result():
    return found("cue-conflict", "edge")


def drawn(axes, label):
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return np.array(line.get_data())


def test_the_table_has_a_row_for_each_model_and_one_for_people(result):
    rows = alignment_rows(result, ["resnet50"])
    assert [row[0] for row in rows] == ["resnet50 *", "simclr_resnet50x1", "humans"]
    assert {len(row) for row in rows} == {len(HEADER)}
    assert rows[0][-2:] == ["0.2142", "169 : 620 : 411"]
    assert rows[2][1] == "2"
    assert any("20 draws" in text for text in explanations(result))
    assert any("*" in text for text in explanations(result, ["resnet50"]))


def test_what_is_undefined_is_a_dash():
    rows = alignment_rows(found("edge", resamples=0))
    assert [row[-3:] for row in rows] == [["", "–", ""]] * 3
    assert all("draws" not in text for text in explanations(found("edge", resamples=0)))


def test_consistency_is_drawn_against_accuracy_with_the_ceiling(result):
    [axes] = draw_consistency(result).axes
    points = {one.get_label(): one for one in axes.containers}
    for one in result.models:
        x, y = (float(value[0]) for value in points[one.name].lines[0].get_data())
        assert (x, y) == (one.overall.accuracy, one.overall.error_consistency)
    ceiling = drawn(axes, "people (ceiling)")[1]
    assert set(ceiling) == {result.humans.overall.error_consistency}


def test_shape_bias_is_drawn_by_category_with_people_as_a_band(result):
    [axes] = draw_shape_bias(result).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(CATEGORIES)
    for one, label in ((result.humans, "people, pooled"), (result.models[0], "resnet50")):
        values = list(one.shape_bias.per_category.values())
        np.testing.assert_array_equal(drawn(axes, label)[0], values)
    people = [list(one.per_category.values()) for one in result.subjects.values()]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    np.testing.assert_allclose(bars, np.transpose([np.min(people, 0), np.max(people, 0)]))


def test_each_set_has_its_row(result):
    left, right = draw_sets(result).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["cue-conflict", "edge"]
    for axes, figure in ((left, "accuracy"), (right, "error_consistency")):
        values = [getattr(one, figure) for one in result.models[1].by_dataset.values()]
        np.testing.assert_array_equal(drawn(axes, "simclr_resnet50x1"), [values, [0, 1]])


def test_the_page_stands_alone(result, tmp_path):
    file = write_alignment_report(tmp_path / "page.html", result, ["resnet50"], ["A <note>."])
    text = file.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "A &lt;note&gt;." in text
    without = write_alignment_report(tmp_path / "page.html", found("edge"), [], [])
    assert without.read_text().count("data:image/png;base64,") == 2
