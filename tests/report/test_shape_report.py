"""What is said and drawn of a search over shapes whose findings are known."""

import json

import pytest
from pages import Page

from distill.estimate.plan import GIB
from distill.estimate.shapes import Found, Shape, ShapeSearch
from distill.report.shape_page import draw_shapes, write_shape_report
from distill.report.shapes import shape_figures, shape_table

BASE = Shape(128, 4, 512, 2)
SMALL, DIAGONAL = Shape(256, 4, 1024, 4), Shape(256, 8, 1024, 4)
WIDE, TOO_LARGE = Shape(512, 6, 2048, 8), Shape(512, 12, 2048, 8)
GRID = (SMALL, DIAGONAL, WIDE, TOO_LARGE, Shape(512, 24, 2048, 8), Shape(256, 2, 1024, 4))
QUESTION = dict(
    topology="v5e:1x1",
    chips=1,
    patch_size=14,
    image_size=224,
    batch_per_chip=64,
    optimizer="adafactor",
    remat="full",
)


def found(shape, millions, gib, seconds, mfu):
    return Found(
        shape=shape,
        parameters=millions * 10**6,
        flops=millions * 10**9,
        bytes_per_chip=int(gib * GIB),
        step_seconds=seconds,
        images_per_second=seconds and 64 / seconds,
        mfu=mfu,
        unestimated_kernels=0,
        compile_seconds=100.0,
    )


FOUND = (
    found(DIAGONAL, 100, 8.0, 0.5, 0.4),
    found(SMALL, 50, 4.0, 0.25, 0.45),
    found(WIDE, 150, 15.0, 1.0, 0.35),
    found(TOO_LARGE, 300, 17.0, None, None),
)


def figures(budget=16.0, base=BASE):
    search = ShapeSearch(None, lambda shape: 0, int(budget * GIB), known=FOUND)
    return shape_figures(QUESTION, search, GRID, (BASE, DIAGONAL) if base else (), base)


def table_rows(figures):
    return [line.split() for line in shape_table(figures).splitlines() if "M  " in line]


def test_the_table_has_the_largest_that_fits_first_and_marks_the_diagonal():
    rows = table_rows(figures())
    assert [tuple(map(int, row[:4])) for row in rows] == [
        (512, 6, 2048, 8),
        (256, 8, 1024, 4),
        (256, 4, 1024, 4),
        (512, 12, 2048, 8),
    ]
    assert rows[1][-6:] == ["100.0", "8.00", "0.500", "128.0", "40.0%", "diagonal"]
    assert rows[3][-4:] == ["17.00", "does", "not", "fit"]


def test_a_price_has_a_column_of_what_a_billion_images_cost():
    search = ShapeSearch(None, lambda shape: 0, 16 * GIB, known=FOUND)
    priced = shape_figures(QUESTION, search, GRID, price=3.6)
    # 64 images in a second on a chip: 10⁹ of them take 4,340 hours.
    assert table_rows(priced)[0][-5:] == ["15.00", "1.000", "64.0", "35.0%", "15,625"]
    assert "USD/10⁹ images" in shape_table(priced) and "USD" not in shape_table(figures())
    assert priced["usd_per_chip_hour"] == 3.6
    assert priced["shapes"][1]["estimated"]["usd_per_billion_images"] == pytest.approx(15_625)


def test_the_diagonal_is_compared_with_the_rest():
    text = shape_table(figures())
    assert "diagonal through 128·4·512·2: 256·8·1024·4, 100 M parameters, 128.0 images/s" in text
    largest = next(line for line in text.splitlines() if line.startswith("the largest elsewhere"))
    assert "1.50 times the diagonal's parameters, 0.50 times its images/s" in largest
    fastest = next(line for line in text.splitlines() if line.startswith("the highest MFU"))
    assert "0.50 times the diagonal's parameters, 2.00 times its images/s" in fastest


def test_what_was_not_compiled_is_counted():
    text = shape_table(figures())
    # 128·4 of the diagonal and 256·2 fit; 512·24 does not.
    assert "2 fit, 1 do not" in text


def test_a_smaller_budget_rules_out_what_the_chip_would_hold():
    found = figures(budget=10.0)
    assert [one["fits"] for one in found["shapes"]] == [False, False, True, True]
    assert found["largest_off_diagonal"] == dict(width=256, depth=4, mlp_dim=1024, heads=4)
    assert "does not fit" in " ".join(table_rows(found)[2])


def test_without_a_diagonal_none_is_mentioned():
    assert "diagonal" not in shape_table(figures(base=None))
    assert len(draw_shapes(figures(base=None)).legends[0].texts) == 4


def test_times_that_kernels_are_missing_from_are_marked():
    one = found(SMALL, 50, 4.0, 0.25, 0.45)
    search = ShapeSearch(None, lambda shape: 0, 16 * GIB, known=[one])
    assert "splash" not in shape_table(shape_figures(QUESTION, search, [SMALL]))
    object.__setattr__(one, "unestimated_kernels", 2)
    assert "splash" in shape_table(shape_figures(QUESTION, search, [SMALL]))


def test_the_picture_has_a_mark_for_each_shape_and_a_star_on_the_diagonal():
    axes, *_ = draw_shapes(figures()).axes
    marks = {}
    for line in axes.lines:
        if line.get_marker() not in ("None", None):
            marks.setdefault(line.get_marker(), set()).add(tuple(*line.get_xydata()))
    assert marks == {
        "s": {(256, 4), (256, 8), (512, 6), (256, 2)},
        "x": {(512, 12), (512, 24)},
        "*": {(256, 8)},
    }
    assert {text.get_text() for text in axes.texts} == {"128", "256", "64"}


@pytest.mark.parametrize("panels", [1, 3])
def test_mlp_ratios_and_head_sizes_have_panels_of_their_own(panels):
    more = [Shape(256, 4, 512, 4), Shape(256, 4, 1024, 2)][: panels - 1]
    search = ShapeSearch(None, lambda shape: 0, 16 * GIB, known=FOUND)
    for shape in more:
        search.found[shape] = found(shape, 40, 3.0, 0.2, 0.4)
    drawing = draw_shapes(shape_figures(QUESTION, search, GRID))
    # One more axes is the bar of colours.
    assert len(drawing.axes) == panels + 1


def test_the_page_needs_no_other_file(tmp_path):
    content = write_shape_report(tmp_path / "page.html", figures(), "{}").read_text()
    assert 'src="data:image/png;base64,' in content
    assert "<td>does not fit</td>" in content
    Page(content)


def test_the_figures_are_json():
    assert json.loads(json.dumps(figures())) == figures()
