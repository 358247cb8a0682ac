"""Tar shards of WebDataset: what they hold, in which split, and what is wrong with them."""

import os
import pickle
import tarfile

import numpy as np
import pytest
from tar_shards import encoded, numbers, opened, pack, samples

from distill.data.labels import check_labels
from distill.data.sources import CorruptImage, indexing, reading
from distill.errors import RunFailed, UserError


@pytest.fixture
def shards(tmp_path):
    """Two shards of train, one of val."""
    for place in range(2):
        pack(tmp_path / f"train-{place:06}.tar", samples(range(place * 10, place * 10 + 10)))
    pack(tmp_path / "val-000000.tar", samples(range(30, 36)))
    return tmp_path


def refused(path, split="train"):
    with pytest.raises(UserError) as caught:
        opened(path, split)
    return str(caught.value)


def test_every_image_is_read_with_its_label(shards):
    source = opened(shards)
    assert numbers(source) == list(range(20))
    assert source.labels.tolist() == [n % 3 for n in range(20)]
    assert source.class_names == ("0", "1", "2")
    assert source.found == "20 images in 3 classes in 2 shards"
    assert source.name(12) == "train-000001.tar/0012.png"
    assert source.describe(12) == f"{shards}/train-000001.tar/0012.png"
    assert numbers(opened(shards, "validation")) == list(range(30, 36))


def test_what_is_no_shard_by_its_name_is_counted(shards):
    pack(shards / "train-000002.TAR", samples(range(20, 22)))
    pack(shards / "more" / "deeper" / "train-000003.tar", samples([50]))
    for name in ("train-000000.tar.bak", "0.webdataset", "1.webdataset", "classes.txt", ".hidden"):
        (shards / name).write_text("0\n1\n2\n", encoding="utf-8")
    source = opened(shards)
    assert numbers(source) == list(range(22))
    assert source.found == (
        "22 images in 3 classes in 3 shards; left out beside the shards 2 .webdataset, 1 .bak, "
        "1 folder in a folder"
    )
    assert opened(shards / "*.tar").found == "20 images in 3 classes in 2 shards"


def test_splits_are_slices_as_of_any_source(shards):
    assert len(opened(shards, "train[:50%]")) == 10
    both = numbers(opened(shards, "train[:7]")) + numbers(opened(shards, "train[7:]"))
    assert sorted(both) == list(range(20))
    assert len(opened(shards, "train+val")) == 26


@pytest.mark.parametrize(
    "pattern",
    ["train-{000000..000001}.tar", "train-*.tar", "*-00000[01].tar", "{train,val}-00000{0..1}.tar"],
)
def test_patterns_name_shards(shards, pattern):
    pack(shards / "val-000001.tar", samples([40]))
    assert numbers(opened(shards / pattern)) == list(range(20))


def test_order_is_that_of_braces(shards):
    assert numbers(opened(shards / "train-{000001..000000}.tar")) == [*range(10, 20), *range(10)]


def test_a_shard_that_braces_name_must_be_there(shards):
    message = refused(shards / "train-{000000..000003}.tar")
    assert "train-000002.tar and 1 other of" in message and "cannot be found" in message


@pytest.mark.parametrize(
    ("braces", "number"),
    [("{0..99999999999}", "100,000,000,000"), ("{0..2000}-{2000..0}", "4,004,001")],
)
def test_braces_that_name_too_many_are_refused(shards, braces, number):
    message = refused(shards / f"train-{braces}.tar")
    assert f"train-{braces}.tar stands for {number} files; expected at most 1,000,000" in message


def test_splits_are_folders(tmp_path):
    for split, start in (("train", 0), ("valid", 50)):
        for place in range(2):
            pack(tmp_path / split / f"{place}.tar", samples([start + place]))
    assert numbers(opened(tmp_path)) == [0, 1]
    assert numbers(opened(tmp_path, "validation")) == [50, 51]
    assert "no split 'test'; it has train, valid" in refused(tmp_path, "test")


def test_a_split_is_found_inside_a_shards_name(tmp_path):
    pack(tmp_path / "imagenet1k-train-0000-of-0001.tar", samples([1]))
    pack(tmp_path / "imagenet1k-validation-00.tar", samples([2]))
    assert numbers(opened(tmp_path)) == [1] and numbers(opened(tmp_path, "val")) == [2]


def test_splits_are_drawn_of_shards_without_them(tmp_path):
    for place in range(4):
        pack(tmp_path / f"part{place}.tar", samples(range(place * 50, place * 50 + 50)))
    found = {split: numbers(opened(tmp_path, split)) for split in ("train", "validation", "test")}
    assert sorted(np.concatenate([*found.values()])) == list(range(200))
    assert 140 <= len(found["train"]) <= 175
    assert opened(tmp_path).found.endswith("drawn from 200 in 4 shards")
    assert "train, validation and test are drawn" in refused(tmp_path, "holdout")
    # A shard more moves no image from its split.
    pack(tmp_path / "part9.tar", samples(range(200, 250)))
    assert set(found["test"]) <= set(numbers(opened(tmp_path, "test")))


def test_labels_are_names_of_json_or_folders(tmp_path):
    pack(
        tmp_path / "json" / "train-0.tar",
        [
            ("a.jpg", encoded(1, "jpeg")),
            ("a.json", b'{"label": "cat"}'),
            ("b.jpg", encoded(2, "jpeg")),
            ("b.cls", b"ant\n"),
            ("b.json", b'{"label": "x"}'),
        ],
    )
    source = opened(tmp_path / "json")
    # A label of its own goes before others that are said of an image.
    assert source.class_names == ("ant", "cat") and source.labels.tolist() == [1, 0]
    members = [(f"{name}/{n}.png", encoded(n)) for n, name in enumerate(["./bee", "x/ant"])]
    pack(tmp_path / "folders" / "train-0.tar", members)
    source = opened(tmp_path / "folders")
    assert source.class_names == ("ant", "bee") and source.labels.tolist() == [1, 0]


def test_images_without_a_label_among_others_have_none(tmp_path):
    members = [("x/a.png", encoded(1)), ("x/a.cls", b"5"), ("x/b.png", encoded(2))]
    pack(tmp_path / "train-0.tar", [*members, ("c.png", encoded(3)), ("c.json", b'{"id": 1}')])
    source = opened(tmp_path)
    assert source.class_names == ("5",) and source.labels.tolist() == [0, -1, -1]
    assert source.found == "3 images in 1 class in 1 shard; 2 without labels"
    with pytest.raises(UserError, match=r"but .*train-0\.tar/x/b\.png has none, as have 1 others"):
        check_labels(source, "pre-training")
    pack(tmp_path / "train-0.tar", [("a.png", encoded(1))])
    assert opened(tmp_path).class_names == ()
    assert opened(tmp_path).found == "1 image in 1 shard; all without labels"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "ant\nbee\ncat\n"),
        ("classes.txt", "\ufeffant\r\nbee\r\n  \r\ncat\r\n"),
        ("classes.json", '\ufeff["ant", "bee", "cat"]'),
        ("classes.json", '["ant", "bee", "cat"]'),
        ("classes.json", '{"1": "bee", "0": "ant", "2": "cat"}'),
        ("dataset_info.json", '{"features": {"label": {"names": ["ant", "bee", "cat"]}}}'),
    ],
)
def test_class_names_lie_beside_the_shards(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    stated = [b"2", b"ant", b"1", b"02"]
    members = [
        one
        for n, label in enumerate(stated)
        for one in ((f"{n}.png", encoded(n)), (f"{n}.cls", label))
    ]
    pack(tmp_path / "train-0.tar", members)
    source = opened(tmp_path)
    assert source.class_names == ("ant", "bee", "cat") and source.labels.tolist() == [2, 0, 1, 2]
    pack(tmp_path / "train-1.tar", [("d.png", encoded(0)), ("d.cls", b"3")])
    message = refused(tmp_path)
    assert f"{tmp_path}/train-1.tar/d.png has the label '3', which is none of the 3" in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("classes.txt", "", "lists no classes"),
        ("classes.txt", "\n \n", "lists no classes"),
        ("classes.json", "[]", "lists no classes"),
        ("classes.txt", "ant\nbee\nant\n", "has the class 'ant' twice"),
        ("classes.json", '{"0": "ant", "0": "bee"}', "it says '0' more than once"),
    ],
)
def test_a_list_of_classes_that_is_none_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    pack(tmp_path / "train-0.tar", samples([0]))
    message = refused(tmp_path)
    assert f"{tmp_path}/{name} " in message and said in message


def test_a_label_may_begin_with_the_mark_of_editors_on_windows(tmp_path):
    members = [("0.png", encoded(0)), ("0.json", b'\xef\xbb\xbf{"label": "ant"}')]
    members += [("1.png", encoded(1)), ("1.cls", b"\xef\xbb\xbfbee")]
    pack(tmp_path / "train-0.tar", members)
    assert opened(tmp_path).class_names == ("ant", "bee")


def test_numbers_are_classes_in_their_order(tmp_path):
    pack(tmp_path / "train-0.tar", samples(range(12), classes=12))
    assert opened(tmp_path).class_names == tuple(map(str, range(12)))


def test_members_of_a_key_need_not_stand_together(tmp_path):
    members = sorted(samples(range(5)), key=lambda member: member[0][::-1])
    assert [name[-3:] for name, _ in members] == ["png"] * 5 + ["cls"] * 5
    pack(tmp_path / "train-0.tar", members)
    assert opened(tmp_path).labels[np.argsort(numbers(opened(tmp_path)))].tolist() == [
        0,
        1,
        2,
        0,
        1,
    ]


def test_of_several_images_of_a_key_one_is_taken_and_the_rest_is_counted(tmp_path):
    members = [("a.seg.png", b"x"), ("a.png", encoded(1)), ("a.JPG", encoded(2, "jpeg"))]
    members += [
        ("a.txt", b"text"),
        (".hidden.png", b""),
        ("__MACOSX/._a.png", b""),
        ("README", b""),
    ]
    members += [("b.txt", b"text"), ("b.cls", b"1"), ("c.jpeg", b""), ("c.png", b"")]
    pack(tmp_path / "train-0.tar", members)
    source = opened(tmp_path)
    assert [source.name(n) for n in range(2)] == ["train-0.tar/a.JPG", "train-0.tar/c.jpeg"]
    assert source.found == (
        "2 images in 1 shard; all without labels; left out 2 .png, 2 .txt, 1 without a suffix, "
        "1 .cls, 1 .seg.png"
    )


def test_links_are_counted_and_not_followed(tmp_path):
    path = pack(tmp_path / "train-0.tar", samples([0]))
    with tarfile.open(path, "a") as tar:
        for name, kind in (("a.png", tarfile.LNKTYPE), ("b.png", tarfile.SYMTYPE)):
            for copy in "12":
                link = tarfile.TarInfo(copy + name)
                link.type, link.linkname = kind, "0000.png"
                tar.addfile(link)
    source = opened(path)
    assert numbers(source) == [0]
    assert source.found.endswith("; left out 2 hard links, 2 symbolic links")


def test_a_key_that_is_there_twice_is_named(tmp_path):
    pack(tmp_path / "train-0.tar", [*samples([1, 2]), *samples([1])])
    message = refused(tmp_path)
    assert f"{tmp_path}/train-0.tar: '0001.png' is there twice" in message


def test_an_image_of_no_bytes_is_corrupt(tmp_path):
    pack(tmp_path / "train-0.tar", [*samples([1]), ("b.png", b""), ("b.cls", b"0")])
    source = opened(tmp_path)
    assert numbers(opened(tmp_path, "train[:1]"))
    with pytest.raises(CorruptImage, match="0 bytes"):
        source.read(1)
    assert source.describe(1) == f"{tmp_path}/train-0.tar/b.png"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"two\nlines"])
def test_a_label_that_cannot_be_read_is_named(tmp_path, content):
    pack(tmp_path / "train-0.tar", [("a.png", encoded(1)), ("a.cls", content)])
    assert f"{tmp_path}/train-0.tar: the label 'a.cls' cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"{", b'{"label": 1.5}', b'{"label": [1]}'])
def test_a_label_in_json_that_cannot_be_read_is_named(tmp_path, content):
    pack(tmp_path / "train-0.tar", [("a.png", encoded(1)), ("a.json", content)])
    assert f"{tmp_path}/train-0.tar: the label 'a.json' cannot be read" in refused(tmp_path)


def test_a_damaged_shard_is_named(shards):
    tar = shards / "train-000001.tar"
    os.truncate(tar, 5000)
    assert f"{tar} is cut off" in refused(shards) and "Copy or pack it again" in refused(shards)
    tar.write_bytes(b"")
    assert f"{tar} is empty, 0 bytes" in refused(shards)


def test_shards_without_images_and_without_an_end_are_named(shards):
    pack(shards / "train-000002.tar", [])
    whole = (shards / "train-000001.tar").read_bytes()
    (shards / "train-000003.tar").write_bytes(whole[: 2 * 1024])
    assert opened(shards).found == (
        "21 images in 3 classes in 4 shards; train-000002.tar holds no images; train-000003.tar "
        "lacks the mark at its end and may be cut off"
    )


@pytest.mark.parametrize(
    ("mode", "program"), [("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")]
)
def test_compressed_shards_are_refused_with_what_to_type(tmp_path, mode, program):
    path = tmp_path / f"train-0.tar.{mode}"
    with tarfile.open(path, f"w:{mode}") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    assert f"Unpack it: {program} '{path}'" in refused(tmp_path)


def test_a_place_without_shards_says_what_is_there(tmp_path):
    (tmp_path / "a.zip").touch()
    assert f"{tmp_path} holds a.zip, and no shards; expected a folder with *.tar" in refused(
        tmp_path
    )
    assert "no file is called" in refused(tmp_path / "x-*.tar")
    assert "cannot be found" in refused(tmp_path / "nothing")


def test_a_shard_that_changes_while_training_is_named(shards, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    source = opened(shards)
    tar = shards / "train-000001.tar"
    pack(tar, samples(range(10, 21)))
    assert source.read(3)["label"] == 0
    with pytest.raises(RunFailed, match=rf"{tar} has changed since it was indexed.*Run the comm"):
        source.read(13)
    tar.unlink()
    with pytest.raises(RunFailed, match=rf"{tar} cannot be read: No such file"):
        source.read(13)


def test_fingerprints_are_of_images_order_labels_and_classes(shards, tmp_path_factory):
    found = opened(shards).fingerprint
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "moved"
    os.rename(shards, elsewhere)
    assert opened(elsewhere).fingerprint == found
    assert opened(elsewhere, "val").fingerprint != found
    assert opened(elsewhere / "train-{000001..000000}.tar").fingerprint != found
    (elsewhere / "classes.txt").write_text("x\ny\nz")
    assert opened(elsewhere).fingerprint != found
    os.unlink(elsewhere / "classes.txt")
    pack(elsewhere / "train-000000.tar", samples(range(10), classes=2))
    assert opened(elsewhere).fingerprint != found


def test_a_worker_is_handed_little_and_reads_the_same(shards):
    for source in (opened(shards), opened(shards, "train[:50%]")):
        data = pickle.dumps(source)
        again = pickle.loads(data)  # noqa: S301
        assert numbers(again) == numbers(source) and again.fingerprint == source.fingerprint
    many = [(f"{n:06}.png", b"x" * 10) for n in range(3000)]
    pack(shards / "train-000003.tar", many)
    assert len(pickle.dumps(opened(shards))) < 16 * 3000


def test_images_are_converted_and_progress_is_said(shards, monkeypatch, caplog):
    monkeypatch.setattr(indexing, "_PATIENCE", -1.0)
    assert opened(shards, channels=1).read(0)["image"].shape == (3, 4, 1)
    said = [record.getMessage() for record in caplog.records]
    assert said[-1] == f"indexing {shards}: 3 of 3 shards, 26 images, ETA 0:00"
