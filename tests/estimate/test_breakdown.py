"""What a step's time is spent on, of schedules small enough to be worked out by hand."""

import dataclasses

import numpy as np
import pytest

from distill.estimate import hlo
from distill.estimate.breakdown import breakdown, product_flops
from distill.estimate.cost import cost_of, spend
from distill.parallel import CHIPS

# One cycle is a microsecond, one byte on a link a nanosecond.
CHIP = dataclasses.replace(CHIPS["TPU v4"], clock_hz=1e6, link_bandwidth=1e9, hbm_bandwidth=1e12)
RING = np.array([[i, 0, 0] for i in range(4)])
US = 1e-6

# As XLA writes them before the first computation: frame 2 is a norm in a loss in an update, 4 the
# optimizer in the same update, 5 attention.
TABLES = """FunctionNames
1 "_make_update.<locals>.update"
2 "_make_update.<locals>.loss"
3 "LayerNorm.__call__"
4 "apply_updates"
5 "attend"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=1 end_column=1}
2 {file_name_id=1 function_name_id=2 line=8 end_line=8 column=1 end_column=1}
3 {file_name_id=2 function_name_id=3 line=9 end_line=9 column=1 end_column=1}
4 {file_name_id=3 function_name_id=4 line=1 end_line=1 column=1 end_column=1}
5 {file_name_id=4 function_name_id=5 line=1 end_line=1 column=1 end_column=1}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}
4 {file_location_id=4 parent_frame_id=2}
5 {file_location_id=5 parent_frame_id=3}

"""
CALLED = """%plain (x: f32[8]) -> f32[8] {
  ROOT %n = f32[8]{0} negate(%x)
}
%product (x: bf16[16,32], y: bf16[32,64]) -> bf16[16,64] {
  %x = bf16[16,32]{1,0} parameter(0)
  %y = bf16[32,64]{1,0} parameter(1)
  ROOT %c = bf16[16,64]{1,0} convolution(%x, %y), dim_labels=bf_io->bf
}
%around (x: bf16[16,32], y: bf16[32,64]) -> bf16[16,64] {
  %x = bf16[16,32]{1,0} parameter(0)
  %y = bf16[32,64]{1,0} parameter(1)
  ROOT %f = bf16[16,64]{1,0} fusion(%x, %y), kind=kOutput, calls=%product
}
"""


def fusion(name, cycles, *, calls="plain", frame=3, op="jvp()/mul"):
    return (
        f"%{name} = f32[8]{{0}} fusion(%p), kind=kLoop, calls=%{calls}, "
        f'metadata={{op_name="jit(train_step)/{op}" stack_frame_id={frame}}}, '
        f'backend_config={{"window_config":{{"estimated_cycles":"{cycles}"}}}}'
    )


def parts_of(*lines, more=""):
    body = "\n".join(f"  {line}" for line in lines)
    entry = f"ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"
    program = hlo.parse(f"HloModule m, is_scheduled=true\n\n{TABLES}{CALLED}{more}\n{entry}")
    spent = spend(program, CHIP, RING, (4, 1, 1), (True, False, False))
    found = breakdown(program, spent)
    assert sum(part.seconds for part in found) == pytest.approx(cost_of(spent).seconds)
    return {part.kind: part for part in found}


AGAIN = "transpose(jvp())/checkpoint/rematted_computation/mul"


def test_each_pass_is_summed_apart():
    found = parts_of(
        fusion("a", 3), fusion("b", 5, op="transpose(jvp())/mul"), fusion("c", 7, op=AGAIN)
    )
    norms = found.pop("norms")
    assert (norms.forward, norms.backward, norms.again) == pytest.approx((3 * US, 5 * US, 7 * US))
    assert not found


def test_kinds_follow_the_functions_that_an_instruction_was_traced_in():
    found = parts_of(
        fusion("a", 1, frame=4),
        fusion("b", 2, frame=3),
        fusion("c", 4, frame=5, calls="around"),
        fusion("d", 8, frame=2, calls="around"),
        fusion("copy_fusion.7", 16, frame=2),
        fusion("e", 32, frame=2),
        # What has a norm fused to it is a product all the same.
        fusion("g", 64, frame=3, calls="around"),
        '%b.1 = f32[1000]{0} broadcast(%p), metadata={op_name="x"}',
    )
    microseconds = {kind: round(part.seconds / US, 3) for kind, part in found.items()}
    assert microseconds == {
        "products": 72,
        "attention": 4,
        "norms": 2,
        "copies": 16.004,
        "optimizer": 1,
        "other": 32,
    }
    assert list(found) == ["products", "attention", "norms", "copies", "optimizer", "other"]


def test_operations_count_as_often_as_they_are_done():
    body = (
        "%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {\n  "
        + fusion("a", 7, calls="around", frame=2)
        + "\n}\n%cond (s: (s32[], f32[8])) -> pred[] {\n  %limit = s32[] constant(48)\n"
        "  %i = s32[] get-tuple-element(%s), index=0\n"
        "  ROOT %lt = pred[] compare(%i, %limit), direction=LT\n}\n"
    )
    loop = "%w = (s32[], f32[8]) while(%p), condition=%cond, body=%body"
    product = parts_of(loop, more=body)["products"]
    assert product.flops == 48 * 2 * 16 * 32 * 64
    assert product.seconds == pytest.approx(48 * 7 * US)


def test_communication_that_is_waited_for_stands_by_its_name():
    everybody = "replica_groups={{0,1,2,3}}"
    around = "source_target_pairs={{0,1},{1,2},{2,3},{3,0}}"
    found = parts_of(
        f"%g = f32[1000000]{{0}} all-gather(%p), channel_id=1, {everybody}, "
        'metadata={op_name="jit(train_step)/checkpoint/rematted_computation/x"}',
        f"%s = (f32[9]{{0}}, f32[9]{{0}}, u32[]) collective-permute-start(%p), {around}",
        "%d = f32[9]{0} collective-permute-done(%s)",
        f"%r = f32[1000]{{0}} all-reduce(%p), channel_id=1, {everybody}",
    )
    assert list(found) == ["gathers", "reductions", "permutes"]
    assert all(part.exposed for part in found.values())
    assert found["gathers"].again == pytest.approx(3 / 4 * 4e6 / 2e9 + 1.5e-6)


def test_a_program_without_tables_names_no_functions():
    text = f"HloModule m, is_scheduled=true\n\n{CALLED}ENTRY %main () -> f32[] {{\n}}\n"
    assert hlo.parse(text).frames == {}


# Lines of a program compiled for v4: products whose heads are places of a window.
PRODUCTS = {
    "projection into heads": (
        "bf16[64,256,6144,1]", "bf16[6144,48,128,1]", "bf16[64,256,48,128]",
        "window={size=1x48 pad=0_0x47_47 rhs_reversal=0x1}, dim_labels=0bf1_i1o0->0b1f",
        2 * 64 * 256 * 6144 * 48 * 128,
    ),
    "weights times values of each head": (
        "bf16[32,729,48,128]", "bf16[32,48,729,729]", "bf16[32,48,128,729]",
        "window={size=32x48 stride=31x47 lhs_dilate=32x48}, dim_labels=0f1b_01oi->01bf",
        2 * 32 * 48 * 729 * 729 * 128,
    ),
    "plain": (
        "f32[8,16]", "f32[16,4]", "f32[8,4]", "dim_labels=bf_io->bf", 2 * 8 * 16 * 4,
    ),
    "patches of 2 by 2": (
        "f32[5,8,8,3]", "f32[2,2,3,7]", "f32[5,4,4,7]",
        "window={size=2x2 stride=2x2}, dim_labels=b01f_01io->b01f", 2 * 5 * 4 * 4 * 7 * 2 * 2 * 3,
    ),
    "with a border": (
        "f32[1,4,1]", "f32[3,1,1]", "f32[1,4,1]",
        "window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f", 2 * (4 * 3 - 2),
    ),
    "with a window that is spread": (
        "f32[1,5,1]", "f32[2,1,1]", "f32[1,3,1]",
        "window={size=2 rhs_dilate=2}, dim_labels=b0f_0io->b0f", 2 * 3 * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_operations_of_a_product_are_those_on_what_is_there(name):
    left, right, result, how, expected = PRODUCTS[name]
    program = hlo.parse(
        "HloModule m, is_scheduled=true\n\nENTRY %main () -> f32[] {\n"
        f"  %x = {left}{{0}} parameter(0)\n  %y = {right}{{0}} parameter(1)\n"
        f"  ROOT %c = {result}{{0}} convolution(%x, %y), {how}\n}}\n"
    )
    assert product_flops(program.entry.by_name["c"], program.entry) == expected


def test_operations_of_a_dot_are_those_of_its_sums():
    program = hlo.parse(
        "HloModule m, is_scheduled=true\n\nENTRY %main () -> f32[] {\n"
        "  %x = f32[3,8,16]{0} parameter(0)\n  %y = f32[3,16,4]{0} parameter(1)\n"
        "  ROOT %c = f32[3,8,4]{0} dot(%x, %y), lhs_batch_dims={0}, lhs_contracting_dims={2}, "
        "rhs_batch_dims={0}, rhs_contracting_dims={1}\n}\n"
    )
    assert product_flops(program.entry.by_name["c"], program.entry) == 2 * 3 * 8 * 16 * 4
