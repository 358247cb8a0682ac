"""What flags' values may be."""

import pytest

from distill.command.flags import number_list
from distill.errors import UserError


def test_lists_of_numbers_are_read_or_refused_with_an_example_of_their_kind():
    assert number_list("bias", "0.05,1", float) == (0.05, 1.0)
    assert number_list("widths", "8,16:32:16") == (8, 16, 32)
    with pytest.raises(
        UserError, match=r"--bias has 'x'; expected numbers such as 0\.05 or 0\.05,4"
    ):
        number_list("bias", "x", float)
    with pytest.raises(UserError, match=r"--widths has '0\.5'; .* such as 1024,1408 or 1024:2048"):
        number_list("widths", "0.5")
