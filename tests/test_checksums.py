"""What is no longer what was written is known by its size or its checksum."""

import json
import random
import zlib

import pytest

from distill.checksums import FILE, checksum_of, damage_in, write_checksums
from distill.errors import Damaged
from distill.json_files import (
    append_json_line,
    parse_json,
    read_json,
    read_json_lines,
    with_checksum,
    write_json,
)


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "d").mkdir()
    for number, name in enumerate(("a", "b", "d/c", "d/empty")):
        (tmp_path / name).write_bytes(random.Random(number).randbytes(0 if "e" in name else 9))
    write_checksums(tmp_path, {})
    return tmp_path


def problems(directory, share=(0, 1)):
    found = damage_in(directory, share)
    assert found is not None
    return found


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(content)


def test_a_checksum_is_the_size_and_the_crc_of_the_whole(tmp_path):
    content = random.Random(0).randbytes(2**22 + 5)
    (tmp_path / "large").write_bytes(content)
    assert checksum_of(tmp_path / "large") == [len(content), f"{zlib.crc32(content):08x}"]


def test_what_is_as_it_was_written_is_sound_and_what_was_added_is_passed_over(directory):
    assert problems(directory) == []
    (directory / "later").write_bytes(b"x")
    assert problems(directory) == []


def test_every_flipped_bit_of_every_file_is_seen(directory):
    for name in ("a", "d/c"):
        for bit in range(8 * 9):
            flip(directory / name, bit)
            (problem,) = problems(directory)
            assert f"{directory / name} has the CRC-32" in problem
            flip(directory / name, bit)
    assert problems(directory) == []


def test_every_flipped_bit_of_the_checksums_is_seen_or_changes_nothing(directory):
    file = directory / FILE
    said = read_json(file)
    for bit in range(0, 8 * file.stat().st_size, 3):
        flip(file, bit)
        if not problems(directory):
            # Of the checksums' own checksum, the name may have changed.
            assert read_json(file)["files"] == said["files"]
        flip(file, bit)


def test_what_is_gone_cut_or_longer_is_named(directory):
    (directory / "a").unlink()
    (directory / "b").write_bytes((directory / "b").read_bytes() + b"x")
    (directory / "d/c").write_bytes(b"")
    gone, longer, cut = problems(directory)
    assert gone == f"{directory / 'a'} is gone"
    assert longer == f"{directory / 'b'} has 10 bytes, and was written with 9"
    assert cut == f"{directory / 'd/c'} has 0 bytes, and was written with 9"


def test_each_takes_its_share_and_all_have_all(directory):
    for name in ("a", "b", "d/c"):
        flip(directory / name, 3)
    shares = [problems(directory, (number, 3)) for number in range(3)]
    assert sum(map(len, shares)) == 3
    assert sorted(one for share in shares for one in share) == problems(directory)


def test_of_what_was_written_without_checksums_nothing_is_said(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert damage_in(tmp_path) is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"files": 3}', '{"files": {"a": 3}}', "{", ""])
def test_checksums_that_say_nothing_are_damaged(directory, content):
    (directory / FILE).write_text(content)
    (problem,) = problems(directory)
    assert f"{directory / FILE} is damaged" in problem


CONTENT = {"seed": 3, "rate": 1e-3, "nested": {"names": ["é", None], "on": True}, "x": -0.1}


def test_every_flipped_bit_of_a_checked_object_is_refused_or_changes_nothing(tmp_path):
    file = tmp_path / "config.json"
    write_json(file, CONTENT, checked=True)
    assert read_json(file) == CONTENT
    refused = 0
    bits = range(0, 8 * file.stat().st_size, 3)
    for bit in bits:
        flip(file, bit)
        try:
            # The key of the checksum may become another one, which is no key of the file.
            found = read_json(file)
            assert found == CONTENT or found.keys() - CONTENT.keys()
        except Damaged as error:
            assert f"{file} is damaged" in str(error)
            refused += 1
        flip(file, bit)
    assert refused > 0.6 * len(bits)


def test_an_object_changed_on_purpose_is_read_without_its_checksum():
    changed = with_checksum(CONTENT) | {"seed": 4}
    with pytest.raises(Damaged, match="take the line of its checksum out"):
        parse_json(json.dumps(changed).encode(), "config.json")
    del changed["checksum"]
    assert parse_json(json.dumps(changed).encode(), "config.json") == CONTENT | {"seed": 4}


ROWS = [{"step": 1, "a": 0.5}, {"step": 2, "a": 0.25}, {"step": 3, "a": 0.125}]


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "rows.jsonl"
    for row in ROWS:
        append_json_line(file, row)
    return file


def test_lines_are_read_as_they_were_added(lines):
    assert read_json_lines(lines) == ROWS


def test_of_a_cut_last_line_at_any_place_only_that_line_is_lost(lines):
    whole = lines.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in range(last, len(whole)):
        lines.write_bytes(whole[:end])
        found = read_json_lines(lines)
        # All but the end of the line may be there.
        assert found == (ROWS if end == len(whole) - 1 else ROWS[:2])
        append_json_line(lines, {"step": 4})
        assert read_json_lines(lines) == [*found, {"step": 4}]


@pytest.mark.parametrize("byte", [b"\xff", b"\x00", b'"', b"\n"])
def test_a_bad_byte_in_the_middle_is_named_with_its_line_and_loses_nothing(lines, byte):
    whole = lines.read_bytes()
    place = whole.find(b"\n") + 5
    lines.write_bytes(whole[:place] + byte + whole[place + 1 :])
    with pytest.raises(Damaged, match=rf"line 2 of {lines} is damaged: (.|\n)*sed -i 2d {lines}"):
        read_json_lines(lines)


def test_a_bad_last_line_that_is_not_cut_is_an_error(lines):
    lines.write_bytes(lines.read_bytes() + b'{"step":\n')
    with pytest.raises(Damaged, match="line 4 of"):
        read_json_lines(lines)
    lines.write_bytes(lines.read_bytes()[:-9] + b"[4]\n")
    with pytest.raises(Damaged, match=r"line 4 of .*is no object"):
        read_json_lines(lines)
