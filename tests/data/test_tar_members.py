"""Tars are walked as Python's tarfile walks them, and damage is named."""

import io
import os
import tarfile

import numpy as np
import pytest

from distill.data.sources.image_index import Shard
from distill.data.sources.local_files import LocalFiles
from distill.data.sources.tar_members import DamagedTar, TarWalk

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def walked(path):
    """Members by a walk, and whether the end's mark was met."""
    with LocalFiles().opened(path, Shard("", os.path.getsize(path), 0)) as file:
        walk = TarWalk(file)
        return list(walk), walk.ended


def by_tarfile(path):
    with tarfile.open(path) as tar:
        return [
            (member.name.encode("utf-8", "surrogateescape"), member.offset_data, member.size)
            for member in tar
            if member.isreg()
        ]


def pack(path, names, form, sizes=None, **options):
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w", format=form, **options) as tar:
        for place, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = sizes[place] if sizes else int(rng.integers(3000))
            # A fraction of a second is a pax header of its own.
            member.mtime = 1.5 if form == tarfile.PAX_FORMAT and place % 2 else 1
            tar.addfile(member, io.BytesIO(rng.bytes(member.size)))


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_those_of_tarfile(tmp_path, form):
    names = ["a.jpg", "folder/b.cls", "./c.json", "x" * 100, "y" * 99]
    # Beyond 100 characters: a prefix, GNU's long name, a pax header.
    names.append("/".join(["deep" * 10] * 5) + "/image.jpg")
    if form != "ustar":
        names += ["z" * 300 + ".jpg", "é花" * 60 + ".png"]
    pack(
        tmp_path / "a.tar",
        names,
        FORMATS[form],
        sizes=[0, 1, 511, 512, 513, 70_000, 5, 9][: len(names)],
    )
    found, ended = walked(tmp_path / "a.tar")
    assert found == by_tarfile(tmp_path / "a.tar") and ended
    assert [name.decode() for name, _, _ in found] == names


def test_folders_links_and_devices_are_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("other")
            member.type, member.linkname = kind, "l" * 200
            tar.addfile(member)
        member = tarfile.TarInfo("file.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    found, _ = walked(tmp_path / "a.tar")
    assert found == by_tarfile(tmp_path / "a.tar") and len(found) == 1


def test_sizes_in_base_256_and_in_pax_headers(tmp_path):
    large = 9 << 30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        member = tarfile.TarInfo("large.bin")
        member.size = large
        with open(tmp_path / "a.tar", "wb") as out:
            out.write(member.tobuf(form))
            out.seek(large, 1)
            out.write(tarfile.TarInfo("after.jpg").tobuf(form) + bytes(1024))
        found, ended = walked(tmp_path / "a.tar")
        assert found == by_tarfile(tmp_path / "a.tar") and ended
        assert [size for _, _, size in found] == [large, 0]


def test_headers_for_all_members_hold_for_all(tmp_path):
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}
    ) as tar:
        for name in ("a.jpg", "é" * 90 + ".jpg", "b.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert walked(tmp_path / "a.tar")[0] == by_tarfile(tmp_path / "a.tar")


@pytest.fixture
def three(tmp_path):
    """Three members of 700 bytes: 1,536 bytes each with its header."""
    pack(tmp_path / "a.tar", ["a.jpg", "b.jpg", "c.jpg"], tarfile.USTAR_FORMAT, [700] * 3)
    return tmp_path / "a.tar"


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (3 * 1536 - 400, "is cut off: 'c.jpg' should end at byte 4,284, but the file has 4,208"),
        (2 * 1536 + 100, r"is cut off in the header at byte 3,072 \(.* before is 'b.jpg'\)"),
        (600, "is cut off: 'a.jpg'"),
        (2 * 1536 - 100, r"is cut off before byte 3,072 \(.* before is 'b.jpg'\)"),
    ],
)
def test_a_tar_that_is_cut_says_where(three, length, said):
    os.truncate(three, length)
    with pytest.raises(DamagedTar, match=said):
        walked(three)


def test_a_tar_that_is_cut_between_members_lacks_its_end(three):
    os.truncate(three, 2 * 1536)
    found, ended = walked(three)
    assert len(found) == 2 and not ended


@pytest.mark.parametrize("place", [0, 100, 130, 150, 400])
def test_a_header_that_is_changed_is_none(three, place):
    data = bytearray(three.read_bytes())
    data[1536 + place] ^= 0x5A
    three.write_bytes(data)
    with pytest.raises(DamagedTar, match=r"no tar header at byte 1,536 .*'a.jpg'"):
        walked(three)


def test_what_is_no_tar_is_none(tmp_path):
    (tmp_path / "a.tar").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DamagedTar, match=r"no tar header at byte 0$"):
        walked(tmp_path / "a.tar")


def test_checksums_of_signed_bytes_are_taken(tmp_path):
    pack(tmp_path / "a.tar", ["é.jpg"], tarfile.USTAR_FORMAT, [0])
    data = bytearray((tmp_path / "a.tar").read_bytes())
    signed = sum(b - 256 * (b > 127) for b in data[:148] + b" " * 8 + data[156:512])
    data[148:156] = b"%06o\0 " % signed
    (tmp_path / "a.tar").write_bytes(data)
    assert walked(tmp_path / "a.tar")[0] == by_tarfile(tmp_path / "a.tar")


@pytest.mark.parametrize("record", [b"99 path=a\n", b"x path=a\n", b"11 pathabcd\n"])
def test_a_pax_header_that_cannot_be_read_is_named(tmp_path, record):
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    (tmp_path / "a.tar").write_bytes(header.tobuf() + record.ljust(512, b"\0") + bytes(1024))
    with pytest.raises(DamagedTar, match="pax header that cannot be read at byte 512"):
        walked(tmp_path / "a.tar")


def test_sparse_files_are_refused_by_name(tmp_path):
    header = tarfile.TarInfo("holes.jpg")
    header.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DamagedTar, match=r"'holes\.jpg' as a sparse file"):
        walked(tmp_path / "a.tar")
