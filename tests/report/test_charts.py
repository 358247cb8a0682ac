"""Charts show the numbers they are given, where their axes say that they are."""

import json
import math
import re

import numpy as np
import pytest
from pages import Page

from distill.report import charts, html, maps
from distill.report.charts import Curve
from distill.report.drawing import WIDTH, json_script
from distill.report.scales import brief, linear, logarithmic

X = np.array([0, 10, 20, 30, 40])
Y = np.array([0.2, 3.1, 1.0, 2.5, 0.4])
HOSTILE = "<img src=x onerror=alert(1)> </script> \"'&"


def page(*parts):
    return Page(html.page("Charts", *parts))


def axis(drawing, name, pattern):
    """The values and places of the ticks of an axis, as they are written in the drawing."""
    found = re.findall(pattern, drawing)
    places, values = zip(*[(float(at), float(text)) for at, text in found], strict=True)
    assert len(places) > 1, name
    return np.array(values), np.array(places)


def down(drawing):
    return axis(drawing, "y", r'text-anchor="end" x="46" y="([\d.]+)">([\d.]+)</text>')


def across(drawing):
    return axis(drawing, "x", r'text-anchor="middle" x="([\d.]+)" y="[\d.]+">([\d.]+)</text>')


def points(drawing):
    """The places of each curve."""
    found = re.findall(r'<polyline class="curve"[^>]* points="([^"]*)"', drawing)
    return [
        np.array([[float(one) for one in pair.split(",")] for pair in text.split()])
        for text in found
    ]


def test_points_stand_where_the_axes_say():
    drawing = charts.lines("One", [Curve("a", X, Y), Curve("b", X, 2 * Y)], y_limits=(0, 7))
    values, places = down(drawing)
    # Text stands four units below its line.
    slope, offset = np.polyfit(places - 4, values, 1)
    steps, ways = across(drawing)
    step_slope, step_offset = np.polyfit(ways, steps, 1)
    for drawn, expected in zip(points(drawing), (Y, 2 * Y), strict=True):
        np.testing.assert_allclose(drawn[:, 1] * slope + offset, expected, atol=0.01)
        np.testing.assert_allclose(drawn[:, 0] * step_slope + step_offset, X, atol=0.05)


def test_values_far_apart_have_a_scale_of_powers_beside_the_other():
    wide = 10.0 ** -np.arange(5)
    drawing = charts.lines("Wide", [Curve("a", X, wide)])
    plain, powers = points(drawing)
    assert "log-scale" in drawing
    np.testing.assert_allclose(np.diff(powers[:, 1]), np.diff(powers[:, 1])[0], atol=0.11)
    assert np.ptp(np.diff(plain[:, 1])) > 50
    assert "log-scale" not in charts.lines("Narrow", [Curve("a", X, Y + 1)])
    assert "log-scale" not in charts.lines("Zero", [Curve("a", X, wide - wide[-1])])


def test_the_numbers_for_the_script_are_those_of_the_curves():
    (data,) = page(charts.lines("One", [Curve("a", X, Y), Curve("b", X[1::2], Y[1::2])])).data
    assert data["x"] == X.tolist()
    assert data["series"][0]["y"] == Y.tolist()
    assert data["series"][1]["y"] == [None, 3.1, None, 2.5, None]
    slope, offset, is_log = data["scales"]["linear"]
    assert not is_log
    first, *_ = points(charts.lines("One", [Curve("a", X, Y), Curve("b", X[1::2], Y[1::2])]))
    np.testing.assert_allclose(slope * Y + offset, first[:, 1], atol=0.06)
    np.testing.assert_allclose(data["at"], first[:, 0], atol=0.06)


def test_of_many_points_the_extremes_are_kept():
    rng = np.random.default_rng(0)
    y = rng.normal(size=10_000)
    y[1234], y[8765] = 40.0, -50.0
    (data,) = page(charts.lines("Many", [Curve("a", np.arange(len(y)), y)])).data
    kept = dict(zip(data["x"], data["series"][0]["y"], strict=True))
    assert len(kept) <= charts.MOST_POINTS + 2
    assert kept[1234] == 40 and kept[8765] == -50
    assert {0, len(y) - 1} <= kept.keys()
    for step, value in kept.items():
        assert value == pytest.approx(y[step], rel=1e-4)


def test_what_is_not_finite_is_left_out():
    y = np.array([1.0, np.nan, np.inf, 2.0, -np.inf])
    (data,) = page(charts.lines("Holes", [Curve("a", X, y)])).data
    assert (data["x"], data["series"][0]["y"]) == ([0, 30], [1, 2])
    assert charts.lines("Nothing", [Curve("a", X[:1], [np.nan]), Curve("b", [], [])]) == ""


def test_names_are_text_wherever_they_stand():
    drawn = [
        charts.lines(HOSTILE, [Curve(HOSTILE, X, Y), Curve("b", X, Y)], x_label=HOSTILE),
        charts.bars(HOSTILE, {HOSTILE: 0.5}, note=HOSTILE),
        maps.heat_map(HOSTILE, np.eye(2, dtype=int), [HOSTILE, "b"], rows="r", columns="c"),
        maps.scatter(HOSTILE, {HOSTILE: np.eye(3)[:, :2]}, [0, 0, -1], [HOSTILE], [HOSTILE] * 3),
    ]
    found = page(*drawn)
    assert not found.all("img")
    assert len(found.scripts) == 1 and len(found.data) == 4
    assert found.data[0]["series"][0]["name"] == HOSTILE
    assert found.data[3]["labels"] == [HOSTILE] * 3


def test_data_cannot_end_its_element_and_comes_back_the_same():
    said = {"names": [HOSTILE, "<!--", "]]>", "\u2028", "é 饺", "\udcff"]}
    text = json_script(said)
    inside = text.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert not {*"<>&\u2028"} & {*inside}
    assert json.loads(inside.encode()) == said


def test_bars_are_as_long_as_their_values():
    drawing = charts.bars("Shares", {"a": 0.25, "b": 0.5, "c": 1.0, "d": 0.0})
    found = re.findall(r'<rect class="bar"[^>]* width="([\d.]+)"', drawing)
    widths = np.array([float(one) for one in found])
    np.testing.assert_allclose(widths / widths[2], [0.25, 0.5, 1, 0], atol=1e-3)


def test_cells_are_shaded_by_their_share_of_the_row():
    counts = np.array([[8, 2, 0], [0, 1, 0], [5, 0, 5]])
    drawing = maps.heat_map("Counts", counts, "abc", rows="true", columns="said")
    shades = np.array(
        [float(one) for one in re.findall(r'class="cell \w+"[^>]*fill-opacity="([\d.]+)"', drawing)]
    ).reshape(3, 3)
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert np.array_equal(shades > 0, counts > 0)
    order = np.argsort(shares[counts > 0])
    assert np.all(np.diff(shades[counts > 0][order]) >= 0)
    (data,) = page(drawing).data
    assert data["labels"][1] == "true a, said b: 2"
    places = re.findall(r'<rect class="cell \w+" x="([\d.]+)" y="([\d.]+)"', drawing)
    x, y = map(float, places[5])
    assert x == pytest.approx(data["left"] + 2 * data["cell"], abs=0.06)
    assert y == pytest.approx(data["top"] + data["cell"], abs=0.06)


def test_a_map_keeps_distances():
    places = np.random.default_rng(0).normal(size=(20, 2)) * [3, 1]
    (data,) = page(maps.scatter("Map", {"one": places}, [0] * 20, ["a"], ["x"] * 20)).data
    drawn = np.array(data["panels"][0]).T

    def distances(points):
        return np.linalg.norm(points[:, None] - points, axis=-1)

    apart = distances(drawn) / np.maximum(distances(places), 1e-9)
    np.testing.assert_allclose(apart[~np.eye(20, dtype=bool)], apart[0, 1], rtol=0.1)
    assert drawn.min() >= 0 and drawn.max() <= WIDTH
    # Up is up.
    assert (places[0, 1] > places[1, 1]) == (drawn[0, 1] < drawn[1, 1])


@pytest.mark.parametrize("ends", [(0, 1), (-3.2, 17), (5, 5), (0, 0), (1e-7, 3e-7), (999, 1001)])
def test_ticks_are_round_numbers_around_the_values(ends):
    scale = linear(ends, (0, 100))
    assert scale.domain[0] <= ends[0] <= ends[1] <= scale.domain[1]
    steps = np.diff(scale.ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)
    assert (scale.at(scale.domain[0]), scale.at(scale.domain[1])) == pytest.approx((0, 100))


def test_equal_ratios_are_equal_distances_on_a_scale_of_powers():
    scale = logarithmic((0.01, 100.0), (0, 4))
    assert [scale.at(one) for one in (0.01, 0.1, 1, 10, 100)] == pytest.approx([0, 1, 2, 3, 4])
    assert [*scale.ticks] == [0.01, 0.1, 1, 10, 100]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (12_000, "12k"),
        (3_400_000, "3.4M"),
        (2e-5, "2e-5"),
        (1999, "1,999"),
    ],
)
def test_numbers_are_brief(value, text):
    assert brief(value) == text
    assert brief(0.12345, percent=True) == "12.3%"
