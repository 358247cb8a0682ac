"""The search over shapes, with a compiler whose every answer is known."""

import dataclasses
import itertools

import pytest

from distill.errors import RunFailed, UserError
from distill.estimate.shape_log import ShapeLog
from distill.estimate.shapes import Found, Shape, ShapeGrid, ShapeSearch, diagonal

GRID = ShapeGrid(
    widths=(1024, 512, 768), depths=(24, 6, 12, 48), mlp_ratios=(2.0, 4.0), head_dims=(64, 128)
)
SHAPES = [shape for column in GRID.columns() for shape in column]
S = Shape(width=384, depth=12, mlp_dim=1536, heads=6)


def parameters(shape):
    return shape.depth * (4 * shape.width**2 + 2 * shape.width * shape.mlp_dim)


def needed(shape):
    """Bytes: state, gradients and activations, and more for small heads."""
    activations = shape.depth * shape.width * 4000 + shape.heads * 200_000
    return 10 * parameters(shape) + activations


class Compiler:
    """Answers at once, and remembers what it was asked."""

    def __init__(self, chip_bytes):
        self.chip_bytes = chip_bytes
        self.asked = []

    def compile(self, shape):
        self.asked.append(shape)
        fits = needed(shape) <= self.chip_bytes
        return Found(
            shape=shape,
            parameters=parameters(shape),
            flops=512 * parameters(shape),
            bytes_per_chip=needed(shape),
            step_seconds=1.0 if fits else None,
            images_per_second=64.0 if fits else None,
            mfu=0.5 if fits else None,
            unestimated_kernels=0,
            compile_seconds=60.0,
        )

    def least(self, shape):
        return 6 * parameters(shape)

    def search(self, budget=None, **options):
        return ShapeSearch(self.compile, self.least, budget or self.chip_bytes, **options)


# From nothing fits to everything does.
BUDGETS = [10**8, *(int(needed(shape)) for shape in SHAPES[::5]), 10**11]


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_search_finds_what_trying_everything_finds(budget):
    compiler = Compiler(chip_bytes=budget)
    search = compiler.search()
    largest = search.run(GRID.columns())
    for column, found in zip(GRID.columns(), largest, strict=True):
        fitting = [shape for shape in column if needed(shape) <= budget]
        assert (found and found.shape) == (fitting[-1] if fitting else None)
    assert [search.verdict(shape) for shape in SHAPES] == [needed(s) <= budget for s in SHAPES]
    assert len(set(compiler.asked)) == len(compiler.asked)
    assert len(compiler.asked) <= sum(len(c).bit_length() for c in GRID.columns())


def test_a_budget_below_the_chips_memory_is_what_counts():
    compiler = Compiler(chip_bytes=10**11)
    budget = needed(SHAPES[7])
    search = compiler.search(budget)
    search.run(GRID.columns())
    assert [search.verdict(shape) for shape in SHAPES] == [needed(s) <= budget for s in SHAPES]


def test_what_cannot_fit_by_its_parameters_is_never_compiled():
    compiler = Compiler(chip_bytes=3 * 10**9)
    compiler.search().run(GRID.columns())
    assert compiler.asked
    assert all(compiler.least(shape) <= compiler.chip_bytes for shape in compiler.asked)
    assert any(compiler.least(shape) > compiler.chip_bytes for shape in SHAPES)


def test_a_shape_that_holds_one_too_large_is_not_compiled():
    compiler = Compiler(chip_bytes=3 * 10**9)
    # Without a bound on parameters, what is known can rule a shape out, and nothing else.
    compiler.least = lambda shape: 0
    search = compiler.search()
    search.run(GRID.columns())
    for earlier, later in itertools.combinations(compiler.asked, 2):
        assert search.found[earlier].fits(search.budget) or not earlier.within(later)


def test_what_was_compiled_before_is_not_compiled_again():
    first = Compiler(chip_bytes=3 * 10**9)
    found = first.search()
    found.run(GRID.columns())
    second = Compiler(chip_bytes=3 * 10**9)
    again = second.search(known=found.found.values())
    again.run(GRID.columns())
    assert second.asked == []
    assert again.found == found.found


def test_the_countdown_is_never_too_short_and_ends_at_the_last_compilation():
    promises = []
    compiler = Compiler(chip_bytes=3 * 10**9)
    search = compiler.search(starting=lambda shape, most_left: promises.append(most_left))
    search.run(GRID.columns())
    total = len(promises)
    assert all(left >= total - number for number, left in enumerate(promises, start=1))
    assert promises == sorted(promises, reverse=True)


def test_an_undecided_shape_has_no_verdict():
    assert Compiler(chip_bytes=10**11).search().verdict(SHAPES[0]) is None


def test_heads_of_another_size_say_nothing_of_each_other():
    small, large = Shape(512, 6, 2048, 8), Shape(1024, 6, 4096, 8)
    assert small.within(Shape(1024, 6, 4096, 16))
    assert not small.within(large)
    for name in ("width", "depth", "mlp_dim"):
        smaller = dataclasses.replace(small, **{name: getattr(small, name) // 2})
        heads = smaller.width // small.head_dim
        assert not small.within(dataclasses.replace(smaller, heads=heads))


def test_columns_differ_in_depth_and_divide_into_heads():
    columns = ShapeGrid(widths=(192, 1408), depths=(4, 2), head_dims=(64, 88)).columns()
    assert columns == [
        (Shape(192, 2, 768, 3), Shape(192, 4, 768, 3)),
        (Shape(1408, 2, 5632, 22), Shape(1408, 4, 5632, 22)),
        (Shape(1408, 2, 5632, 16), Shape(1408, 4, 5632, 16)),
    ]


def test_mlps_are_multiples_of_the_matrix_unit():
    columns = ShapeGrid(widths=(1408,), depths=(40,), mlp_ratios=(0.01, 4.3636), tile=256).columns()
    assert [column[0].mlp_dim for column in columns] == [256, 6144]


def test_the_diagonal_grows_in_proportion_and_never_shrinks():
    shapes = list(itertools.islice(diagonal(S), 16))
    assert S in shapes
    assert Shape(1664, 52, 6656, 26) in shapes
    for smaller, larger in itertools.pairwise(shapes):
        assert smaller.within(larger) and smaller != larger
    for shape in shapes:
        factor = shape.width / S.width
        assert shape.depth == pytest.approx(factor * S.depth, abs=0.5)
        assert shape.mlp_dim == pytest.approx(factor * S.mlp_dim, abs=64)


def test_the_diagonal_keeps_to_widths_that_heads_and_matrix_units_divide():
    g = Shape(width=1408, depth=40, mlp_dim=6144, heads=16)
    assert next(diagonal(g)) == g
    assert [shape.width for shape in itertools.islice(diagonal(S, tile=256), 3)] == [256, 512, 768]


def test_the_largest_on_the_diagonal_is_the_last_that_fits():
    compiler = Compiler(chip_bytes=10**10)
    search = compiler.search()
    shapes = search.within_budget(diagonal(S))
    (best,) = search.run([shapes])
    fitting = itertools.takewhile(lambda s: needed(s) <= compiler.chip_bytes, diagonal(S))
    assert best.shape == list(fitting)[-1]
    assert len(compiler.asked) <= len(shapes).bit_length() < len(shapes)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Shape(100, 2, 400, 3), "100 is not divisible by heads 3"),
        (lambda: Shape(100, 0, 400, 4), "positive dimensions"),
        (lambda: ShapeGrid(widths=(), depths=(1,)), "widths"),
        (lambda: ShapeGrid(widths=(64,), depths=(0,)), "depths"),
        (lambda: ShapeGrid(widths=(64,), depths=(1,), mlp_ratios=(0.0,)), "mlp_ratios"),
        (lambda: ShapeGrid(widths=(96,), depths=(1,), head_dims=(64, 128)), "heads of 64 or 128"),
    ],
)
def test_shapes_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("content", ['[{"a": 1}]', "[3]", '{"shape": 1}', "[", '[{"shape": {}}]'])
def test_a_damaged_log_of_shapes_is_named(tmp_path, content):
    ShapeLog(str(tmp_path), {"chips": 8})
    (tmp_path / "shapes.json").write_text(content)
    with pytest.raises((UserError, RunFailed), match=r"shapes\.json"):
        ShapeLog(str(tmp_path), {"chips": 8})
