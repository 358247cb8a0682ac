"""The plots and page of fairness hold what was measured."""

import numpy as np
import pytest
from pages import Page

from distill.analysis.calibration import equal_mass, equal_width
from distill.analysis.debiasing import compare
from distill.analysis.fairness import Cases
from distill.report.fairness import draw_trade_off, write_fairness_report
from distill.report.fairness_table import gap_rows, group_rows
from distill.report.reliability import draw_reliability

ABOUT = {"table": "t.csv", "score": "p", "target": "y", "group": "s", "held_out_table": "v.csv"}


def drawn(count: int, seed: int) -> Cases:
    rng = np.random.default_rng(seed)
    group = np.arange(count) % 3
    score = rng.beta(1 + group, 2)
    return Cases.of(score, rng.random(count) < score, group)


@pytest.fixture(scope="module")
def comparison():
    return compare(drawn(600, 0), drawn(500, 1), biases=(0.0, 0.1, 0.3))


def test_a_reliability_diagram_has_a_bar_for_each_bin_with_examples():
    probability = np.array([0.05, 0.05, 0.95, 1.0])
    curve = equal_width(probability, [0, 1, 1, 1], convention="positive_class")
    drawing = draw_reliability({"before": curve, "after": curve})
    axes, _, counts, _ = drawing.axes
    outcomes = np.array([(bar.get_x(), bar.get_height()) for bar in axes.containers[0]])
    np.testing.assert_allclose(outcomes, [(0, 0.5), (14 / 15, 1.0)])
    gaps = [bar.get_height() for bar in axes.containers[1]]
    assert gaps == pytest.approx([0.05 - 0.5, 0.975 - 1])
    assert sum(bar.get_height() for bar in counts.containers[0]) == pytest.approx(1)
    assert axes.get_title() == f"before\nECE {curve.error():.4f}"
    assert counts.get_xlabel() == "probability of the positive class"


def test_bins_of_equal_mass_and_no_examples_can_be_drawn():
    draw_reliability({"": equal_mass(np.ones(9), np.ones(9), convention="top_label")})
    draw_reliability({"": equal_width(np.zeros(0), np.zeros(0), convention="top_label")})


def test_the_trade_off_shows_every_debiaser_and_what_was_before(comparison):
    gaps, accuracies, errors = draw_trade_off(comparison).axes
    lines = {line.get_label(): line.get_xydata() for line in gaps.lines}
    reached = [one.applied.gap("rate") for one in comparison.curve]
    np.testing.assert_array_equal(lines["these cases"].T, ([0.0, 0.1, 0.3], reached))
    fitted = [one.fitted.gap("rate") for one in comparison.curve]
    np.testing.assert_array_equal(lines["held-out cases"][:, 1], fitted)
    lines = {line.get_label(): line.get_xydata() for line in accuracies.lines}
    overall = [one.applied.accuracy for one in comparison.curve]
    np.testing.assert_array_equal(lines["all cases"].T, (reached, overall))
    for name in "012":
        mine = [one.applied.groups[name].accuracy for one in comparison.curve]
        np.testing.assert_array_equal(lines[name].T, (reached, mine))
    hard = comparison.before[0]
    np.testing.assert_array_equal(lines["score ≥ 0.5"], [(hard.gap("rate"), hard.accuracy)])
    lines = {line.get_label(): line.get_xydata() for line in errors.lines}
    score = comparison.before[1]
    expected = (score.gap("rate"), score.calibration.equal_width.error())
    np.testing.assert_array_equal(lines["score itself"], [expected])


def test_tables_have_a_row_for_each_decision_and_group(comparison):
    assert [row[0] for row in gap_rows(comparison)] == [
        "score ≥ 0.5",
        "score itself",
        "debiased, ε = 0",
        "debiased, ε = 0.1",
        "debiased, ε = 0.3",
    ]
    assert gap_rows(comparison)[0][1] == f"{comparison.before[0].gap('rate'):.2%}"
    assert len(group_rows(comparison)) == 5 * 3
    assert group_rows(comparison)[1][1:3] == ("1", "200")


def test_a_figure_that_does_not_exist_is_a_dash():
    found = compare(Cases.of([0.9, 0.2], [1, 0], ["a", "b"]))
    assert group_rows(found)[0][-1] == "–" and gap_rows(found)[0][3:5] == ("–", "–")


def test_the_page_needs_no_other_file_and_tells_what_it_is_of(comparison, tmp_path):
    page = write_fairness_report(tmp_path / "r.html", comparison, ABOUT).read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2
    Page(page)
    for row in (*gap_rows(comparison), *group_rows(comparison)):
        for cell in row:
            assert f"<td>{cell}</td>" in page
    for text in ("600 cases of t.csv; score p, target y, groups by s", "500 cases of v.csv"):
        assert text in page


def test_a_page_without_debiasing_has_no_trade_off(tmp_path):
    found = compare(drawn(60, 0))
    about = ABOUT | {"held_out_table": None}
    page = write_fairness_report(tmp_path / "r.html", found, about).read_text("utf-8")
    assert page.count("data:image/png;base64,") == 1 and "What fairness costs" not in page
    assert "has 20 cases; figures of fewer than 100" in page
