"""A scaling study's figure and tables hold what was measured."""

import numpy as np
import pytest
from pages import Page

from distill.errors import UserError
from distill.laws.law import ScalingLaw
from distill.laws.study import Point, find_trend, held_out
from distill.report.scaling import draw_trend, study_header, study_rows, write_scaling_report

LAW = ScalingLaw(a=2e3, b=0.4, c=0.02, d=1e8)
SUMMARY = {"held_out_images": 600, "flops": {"spent": 1.5e12, "apart": 3e12}}


def models(**changed: float) -> list[Point]:
    """Three sizes of four lengths; the longest of a size is on the law, the others above it."""
    found = []
    for size in range(3):
        for length in range(4):
            flops = 1e9 * 4.0 ** (size + length)
            error = float(LAW.predict(flops)) * (1 + 0.1 * (3 - length))
            errors = {"error": error, "cross_entropy": 4 * error} | changed
            found.append(
                Point(
                    size=f"size{size}",
                    parameters=1000 * 4**size,
                    steps=100 * 4**length,
                    images=6400 * 4**length,
                    flops=flops,
                    errors=errors,
                )
            )
    return found


@pytest.fixture(scope="module")
def trend():
    return find_trend(models(), "error", resamples=100, seed=0)


def test_the_frontier_is_the_longest_run_at_each_compute(trend):
    points = models()
    best = {}
    for point in points:
        best[point.flops] = min(point.errors["error"], best.get(point.flops, 1.0))
    expected = [point.errors["error"] == best[point.flops] for point in points]
    assert trend.frontier.tolist() == expected
    assert trend.fit.points == sum(expected) == 6


def test_the_figure_shows_sizes_frontier_fit_and_asymptote(trend):
    points = models()
    axes = draw_trend(points, trend).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "FLOPs" in axes.get_xlabel() and "error rate" in axes.get_ylabel()
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    for size in range(3):
        mine = [p for p in points if p.size == f"size{size}"]
        line = lines[f"size{size}: {1000 * 4**size:,} parameters"]
        np.testing.assert_array_equal(line, [(p.flops, p.errors["error"]) for p in mine])
    on = [p for p, shown in zip(points, trend.frontier, strict=True) if shown]
    np.testing.assert_array_equal(
        lines["on the frontier"], [(p.flops, p.errors["error"]) for p in on]
    )
    compute, error = lines["fitted law"].T
    np.testing.assert_array_equal(error, trend.fit.law.predict(compute))
    low, high = axes.get_ylim()
    assert low < min(p.errors["error"] for p in points) and high > error.max()
    (asymptote,) = (xy for label, xy in lines.items() if label.startswith("asymptote"))
    assert asymptote[0, 1] == trend.fit.law.c > low


def test_the_report_needs_no_other_file(trend, tmp_path):
    page = write_scaling_report(tmp_path, models(), [trend], SUMMARY).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert 'src="data:' in page
    Page(page)
    for row in study_rows(models(), [trend]):
        for cell in row:
            assert f"<td>{cell}</td>" in page
    for value in (trend.fit.law.b, *trend.fit.intervals()["b"]):
        assert f"{value:.3g}" in page
    assert "600 images" in page and "1.50e+12" in page and "3.00e+12" in page


def test_rows_mark_the_frontier_of_their_measure(trend):
    other = find_trend(models(cross_entropy=1.0), "cross_entropy", resamples=100, seed=0)
    header = study_header([trend, other])
    rows = study_rows(models(cross_entropy=1.0), [trend, other])
    assert header[-2:] == ("error", "cross-entropy")
    assert ["*" in row[-2] for row in rows] == trend.frontier.tolist()
    # Of equal errors the cheapest alone is on the frontier.
    assert [number for number, row in enumerate(rows) if "*" in row[-1]] == [0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "error, problem",
    [(0.0, "12 models make no error"), (0.5, "1 different values of compute are too few")],
)
def test_without_a_law_the_report_says_why(error, problem, tmp_path):
    trend = find_trend(models(error=error), "error", resamples=100, seed=0)
    assert trend.fit is None and problem in trend.problem
    assert (
        problem in write_scaling_report(tmp_path, models(error=error), [trend], SUMMARY).read_text()
    )
    assert trend.figures()["problem"] == trend.problem


def test_errors_are_over_the_images_of_both_splits():
    summary = {"val/accuracy": 1.0, "val/cross_entropy": 0.0}
    summary |= {"test/accuracy": 0.9, "test/cross_entropy": 0.5}
    both = held_out(summary, {"val": 240, "test": 360})
    assert both == pytest.approx({"error": 36 / 600, "cross_entropy": 0.3})
    assert held_out(summary, {"val": 240}) == {"error": 0.0, "cross_entropy": 0.0}


def test_a_split_without_labels_has_no_errors_to_study():
    summary = {"val/accuracy": 0.5, "val/cross_entropy": 1.0}
    assert held_out(summary, {"val": 10})["error"] == 0.5
    with pytest.raises(UserError, match=r"nothing is known of test/accuracy"):
        held_out(summary, {"val": 10, "test": 10})
