"""The cost model on schedules small enough to be worked out by hand."""

import dataclasses

import numpy as np
import pytest

from distill.estimate import hlo
from distill.estimate.cost import HOST_BANDWIDTH, Cost, estimate
from distill.estimate.torus import HOP_LATENCY, Torus
from distill.parallel import CHIPS

# One cycle is a microsecond, one byte on a link a nanosecond, one in HBM a picosecond.
CHIP = dataclasses.replace(
    CHIPS["TPU v4"], clock_hz=1e6, link_bandwidth=1e9, hbm_bandwidth=1e12, peak_flops=1e12
)
RING = np.array([[i, 0, 0] for i in range(4)])
SHAPE, RINGS = (4, 1, 1), (True, False, False)
AROUND = "source_target_pairs={{0,1},{1,2},{2,3},{3,0}}"
BACK = "source_target_pairs={{1,0},{2,1},{3,2},{0,3}}"
EVERYBODY = "replica_groups={{0,1,2,3}}"
US = 1e-6


def program(*lines, more=""):
    """A scheduled module whose entry holds `lines`."""
    body = "\n".join(f"  {line}" for line in lines)
    entry = f"ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"
    return f"HloModule m, is_scheduled=true\n\n{more}\n{entry}"


def cycles(name, count, operand="%p"):
    return (
        f"%{name} = f32[8]{{0}} fusion({operand}), kind=kLoop, calls=%f, "
        f'backend_config={{"window_config":{{"estimated_cycles":"{count}"}}}}'
    )


def permute_start(name, pairs=AROUND, size=250_000):
    return (
        f"%{name} = (f32[{size}]{{0}}, f32[{size}]{{0}}, u32[]) "
        f"collective-permute-start(%p), channel_id=1, {pairs}"
    )


def permute_done(name, start, size=250_000):
    return f"%{name} = f32[{size}]{{0}} collective-permute-done(%{start})"


FUSED = "%f (x: f32[8]) -> f32[8] {\n  ROOT %n = f32[8]{0} negate(%x)\n}\n"
# Everybody sends a million bytes one hop: a millisecond, and the latency of a hop.
PERMUTE = 1e-3 + HOP_LATENCY


def cost_of(*lines, more=FUSED):
    return estimate(hlo.parse(program(*lines, more=more)), CHIP, RING, SHAPE, RINGS)


def check(cost, *, compute=0.0, hidden=0.0, exposed=0.0):
    assert dataclasses.astuple(cost) == pytest.approx((compute, hidden, exposed), abs=1e-12)
    assert cost.seconds == pytest.approx(compute + exposed)


def test_arithmetic_takes_the_compilers_cycles():
    check(cost_of(cycles("a", 30), cycles("b", 12, "%a")), compute=42 * US)


def test_what_has_no_cycles_takes_its_bytes():
    copy = "%c = f32[1000,1000]{1,0} copy(%d)"
    source = "%d = f32[1000,1000]{1,0} parameter(0)"
    check(cost_of(source, copy), compute=8e6 / 1e12)


def test_loops_multiply_their_body():
    body = (
        "%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {\n  " + cycles("a", 7) + "\n}\n"
        "%cond (s: (s32[], f32[8])) -> pred[] {\n"
        "  %limit = s32[] constant(48)\n"
        "  %i = s32[] get-tuple-element(%s), index=0\n"
        "  ROOT %lt = pred[] compare(%i, %limit), direction=LT\n}\n"
    )
    loop = "%w = (s32[], f32[8]) while(%p), condition=%cond, body=%body"
    check(cost_of(loop, more=FUSED + body), compute=48 * 7 * US)


def test_a_loop_that_depends_on_its_data_counts_once():
    body = (
        "%body (s: (s32[])) -> (s32[]) {\n  " + cycles("a", 7) + "\n}\n"
        "%cond (s: (s32[])) -> pred[] {\n  ROOT %lt = pred[] custom-call(%s)\n}\n"
    )
    loop = "%w = (s32[]) while(%p), condition=%cond, body=%body"
    check(cost_of(loop, more=FUSED + body), compute=7 * US)


@pytest.mark.parametrize(
    "opcode, shape, share, steps",
    [
        ("all-gather", "f32[1000000]{0}", 3 / 4, 3),
        ("all-reduce", "f32[1000000]{0}", 6 / 4, 6),
        # Written with what a device keeps: a quarter of the whole.
        ("reduce-scatter", "f32[250000]{0}", 3 / 4, 3),
    ],
)
def test_synchronous_collectives_are_exposed(opcode, shape, share, steps):
    line = f"%c = {shape} {opcode}(%p), channel_id=1, {EVERYBODY}"
    # Four million bytes around a ring of four, both ways.
    seconds = share * 4e6 / 2e9 + steps / 2 * HOP_LATENCY
    check(cost_of(cycles("a", 10), line), compute=10 * US, exposed=seconds)


def test_a_reduce_scatter_fused_by_xla_is_one():
    scatter = (
        "%scatter (x: f32[1000000]) -> f32[250000] {\n"
        f"  %r = f32[1000000]{{0}} all-reduce(%x), channel_id=1, {EVERYBODY}\n"
        "  ROOT %s = f32[250000]{0} dynamic-slice(%r)\n}\n"
    )
    line = "%c = f32[250000]{0} fusion(%p), kind=kCustom, calls=%scatter"
    seconds = 3 / 4 * 4e6 / 2e9 + 1.5 * HOP_LATENCY
    check(cost_of(line, more=scatter), exposed=seconds)


def test_a_permute_is_hidden_behind_what_runs_meanwhile():
    lines = [permute_start("s"), cycles("a", 5000), permute_done("d", "s")]
    check(cost_of(*lines), compute=5000 * US, hidden=PERMUTE)


def test_what_outlasts_the_arithmetic_is_exposed():
    lines = [permute_start("s"), cycles("a", 300), permute_done("d", "s")]
    check(cost_of(*lines), compute=300 * US, hidden=300 * US, exposed=PERMUTE - 300 * US)


def test_permutes_one_way_take_turns_and_both_ways_do_not():
    one_way = [
        permute_start("s"),
        permute_start("t"),
        permute_done("d", "s"),
        permute_done("e", "t"),
    ]
    check(cost_of(*one_way), exposed=2 * PERMUTE)
    both = [permute_start("s"), permute_start("t", BACK), *one_way[2:]]
    cost = cost_of(*both)
    assert cost.seconds == pytest.approx(PERMUTE)


def test_prefetches_cost_only_what_is_waited_for():
    start = "%c = (f32[1000000]{0:S(1)}, f32[1000000]{0}, u32[]) copy-start(%p)"
    done = "%d = f32[1000000]{0:S(1)} copy-done(%c)"
    check(cost_of(start, cycles("a", 1), done), compute=4e6 / 1e12)
    check(cost_of(start, cycles("a", 100), done), compute=100 * US)


def test_costs_add_and_scale():
    assert (Cost(1, 2, 3) + Cost(1, 1, 1)) * 2 == Cost(4, 6, 8)


@pytest.mark.parametrize(
    "text, groups",
    [
        ("replica_groups={{0,2},{1,3}}", [[0, 2], [1, 3]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [[0, 1, 2, 3]]),
    ],
)
def test_groups_are_read_in_every_notation(text, groups):
    assert hlo.replica_groups(text, 4) == groups


def torus(shape, rings):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))
    return Torus(grid, shape, rings, 1e9)


def test_a_ring_of_a_plane_and_a_closed_dimension_run_both_ways_and_a_line_does_not():
    seconds = {
        "closed": torus((4, 1), (True, False)).collective_seconds("all-gather", (0, 1, 2, 3), 4e9),
        "line": torus((4, 1), (False, False)).collective_seconds("all-gather", (0, 1, 2, 3), 4e9),
        "plane": torus((2, 2), (False, False)).collective_seconds("all-gather", (0, 1, 2, 3), 4e9),
    }
    assert seconds["closed"] == pytest.approx(1.5, rel=1e-5)
    assert seconds["line"] == pytest.approx(3.0, rel=1e-5)
    assert seconds["plane"] == pytest.approx(1.5, rel=1e-5)


# The compiler's notes on collectives over 64 chips of a torus, as v4 and v5p have them: each of
# their lines follows a backslash and an n.
ONE_RING = (
    r"\nStrategyRing{colors:1 phases:1 cores:{64}} Type: 1D color_count: 1; "
    "all-reduce-scatter fusion ND: span_size:24576"
)
A_RING_FOR_EACH_DIMENSION = r"\nStrategyND{colors:2 phases:2 cores:{8 8},{8 8} num_dims:2"
ONE_WAY_IN_EACH_DIMENSION = r"\nUniDirectionNDRingStrategy{colors:4 phases:2 cores:{8 8},{8 8}"


@pytest.mark.parametrize(
    "notes, rings",
    [("", 1), (ONE_RING, 1), (A_RING_FOR_EACH_DIMENSION, 2), (ONE_WAY_IN_EACH_DIMENSION, 2)],
)
def test_as_many_rings_as_the_compiler_says_share_the_data(notes, rings):
    plane = torus((8, 8), (True, True))
    everybody = tuple(range(64))
    seconds = plane.collective_seconds("all-reduce", everybody, 64e9, notes)
    # Twice 63/64 of 64 GB, each ring both ways at 1 GB/s; latency is microseconds.
    assert seconds == pytest.approx(2 * 63 / (2 * rings), rel=1e-4)


def test_two_ways_around_one_dimension_are_one_ring():
    notes = r"\nUniDirection1DRingStrategy{colors:2 phases:1 cores:{8},{8} nophase0:0"
    ring, group = torus((8,), (True,)), tuple(range(8))
    seconds = ring.collective_seconds("all-reduce", group, 8e9, notes)
    assert seconds == ring.collective_seconds("all-reduce", group, 8e9)


def test_groups_with_gaps_share_their_links():
    # 0, 2, 4, 6 and 1, 3, 5, 7 of a ring of eight: every link carries both groups.
    ring = torus((8,), (True,))
    alone = torus((4,), (True,)).collective_seconds("all-gather", (0, 1, 2, 3), 4e9)
    assert ring.collective_seconds("all-gather", (0, 2, 4, 6), 4e9) == pytest.approx(
        2 * alone, rel=1e-5
    )


def test_devices_of_a_chip_share_its_links():
    # Four chips of two devices on a ring, numbered chip by chip.
    at = np.repeat(np.arange(4), 2)[:, None]
    both = Torus(at, (4,), (True,), 1e9)
    alone = torus((4,), (True,)).collective_seconds("all-gather", (0, 1, 2, 3), 4e9)
    # One device of each, while the other four do the same.
    assert both.collective_seconds("all-gather", (0, 2, 4, 6), 4e9) == pytest.approx(
        2 * alone, rel=1e-5
    )
    # All eight in one ring: no link carries more than one group.
    whole = both.collective_seconds("all-gather", tuple(range(8)), 4e9)
    assert whole == pytest.approx(7 / 8 * 2, rel=1e-4)


def test_permutes_take_the_short_way_and_count_who_shares_a_link():
    ring = torus((8,), (True,))
    assert ring.directions(((0, 7),)) == ("link 0-1",)
    assert ring.permute_seconds(((0, 7),), 1e9) == pytest.approx(1.0, rel=1e-5)
    # Everybody sends two hops ahead: each link carries two messages.
    pairs = tuple((i, (i + 2) % 8) for i in range(8))
    assert ring.permute_seconds(pairs, 1e9) == pytest.approx(2.0, rel=1e-5)
    line = torus((8,), (False,))
    assert line.permute_seconds(((0, 7),), 1e9) == pytest.approx(1.0 + 7 * HOP_LATENCY)


def test_text_that_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="not a scheduled program"):
        hlo.parse("HloModule m\nENTRY %main () -> f32[] {\n}\n")


@pytest.mark.parametrize(
    "shape, size", [("bf16[2,3]{1,0}", 12), ("(f32[4]{0}, s8[3], pred[2])", 21), ("f32[]", 4)]
)
def test_bytes_of_shapes(shape, size):
    assert hlo.shape_bytes(shape) == size


def test_a_copy_in_the_background_moves_what_it_writes():
    start = "%c = ((f32[1000000]{0}), f32[1000]{0:S(1)}, u32[]) slice-start(%p), slice={[0:1000]}"
    check(cost_of(start, "%d = f32[1000]{0:S(1)} slice-done(%c)"), compute=4e3 / 1e12)


def test_what_goes_to_the_host_moves_what_it_writes_and_not_what_it_writes_into():
    start = (
        "%c = ((f32[48,1000]{1,0:S(5)}, f32[1,1000]{1,0}, s32[], s32[]), "
        "f32[48,1000]{1,0:S(5)}, u32[]) dynamic-update-slice-start(%p, %q, %i, %j)"
    )
    done = "%d = f32[48,1000]{1,0:S(5)} dynamic-update-slice-done(%c)"
    check(cost_of(start, done), exposed=4e3 / HOST_BANDWIDTH)


def test_several_arrays_of_one_collective_all_count():
    line = (
        f"%c = (f32[500000]{{0}}, f32[500000]{{0}}) all-reduce(%p, %q), channel_id=1, {EVERYBODY}"
    )
    check(cost_of(line), exposed=6 / 4 * 4e6 / 2e9 + 3 * HOP_LATENCY)


def test_of_a_conditional_the_dearest_branch_counts():
    branches = "".join(
        f"%b{count} (x: f32[8]) -> f32[8] {{\n  {cycles('a', count)}\n}}\n" for count in (5, 9)
    )
    line = "%c = f32[8]{0} conditional(%p, %q, %r), branch_computations={%b5, %b9}"
    check(cost_of(line, more=FUSED + branches), compute=9 * US)


def test_a_collective_that_xla_fuses_with_a_product_is_hidden_behind_it():
    gather = f"  %g = f32[1000000]{{0}} all-gather(%x), channel_id=1, {EVERYBODY}\n"
    fused = "".join(
        f"%{name} (x: f32[250000]) -> f32[1000000] {{\n{gather}}}\n"
        for name in ("begin", "async_collective_fusion.1", "end")
    )
    lines = [
        "%async-collective-start = (f32[250000]{0}, f32[1000000]{0}) fusion(%p), calls=%begin",
        "%part = f32[1000000]{0} get-tuple-element(%async-collective-start), index=1",
        cycles("product", 5000, "%part").replace("%f,", "%async_collective_fusion.1,"),
        "%async-collective-done = f32[1000000]{0} fusion(%product), calls=%end",
    ]
    gathering = 3 / 4 * 4e6 / 2e9 + 1.5 * HOP_LATENCY
    check(cost_of(*lines, more=fused), compute=5000 * US, hidden=gathering)
