"""What flags' values may be."""

import pytest
from absl import flags

from distill.bounds import BatchSize, Share, Width
from distill.command.flags import define_number, number_list, parse_some
from distill.errors import UserError


def test_lists_of_numbers_are_read_or_refused_with_an_example_of_their_kind():
    assert number_list("bias", "0.05,1", Share) == (0.05, 1.0)
    assert number_list("widths", "8,16:32:16", Width) == (8, 16, 32)
    with pytest.raises(
        UserError, match=r"--bias has 'x'; expected numbers such as 0\.05 or 0\.05,4"
    ):
        number_list("bias", "x", Share)
    with pytest.raises(UserError, match=r"--widths has '0\.5'; .* such as 1024,1408 or 1024:2048"):
        number_list("widths", "0.5", Width)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8,0", r"--widths has 0; expected whole number from 1 to 262,144 each"),
        ("1:999999999:1", "--widths lists more than 10,000 numbers"),
        ("9" * 5000, "--widths has '9999.*…; expected numbers such as"),
    ],
)
def test_lists_hold_as_many_numbers_as_make_sense_within_bounds(text, message):
    with pytest.raises(UserError, match=message):
        number_list("widths", text, Width)


@pytest.mark.parametrize("text", ["0", "nan", "1.5", "many", "inf", str(2**63), "9" * 5000, "1e22"])
def test_a_number_out_of_its_flags_bounds_is_refused(text):
    values = flags.FlagValues()
    define_number("batch_size", "Over all devices.", values, BatchSize, 256)
    assert parse_some(values, []) == [] and values.batch_size == 256
    with pytest.raises(UserError, match=r"batch_size.*expected whole number from 1 to 16,777,216"):
        parse_some(values, [f"--batch_size={text}"])
    parse_some(values, ["--batch_size=3"])
    assert values.batch_size == 3
