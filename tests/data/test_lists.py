"""Lists of images in CSV and TSV."""

import os
import pickle

import numpy as np
import pytest
from tar_shards import encoded, picture

from distill.data import open_source
from distill.data.sources import reading
from distill.errors import RunFailed, UserError


@pytest.fixture
def images(tmp_path):
    """Pictures 0 to 9 in two folders."""
    for number in range(10):
        path = tmp_path / ("even", "odd")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(number))
    return tmp_path


def path(number):
    return f"{('even', 'odd')[number % 2]}/{number}.png"


def opened(file, split="train"):
    return open_source(f"list:{file}", split, channels=3)


def listed(images, text, split="train", name="train.csv"):
    (images / name).write_text(text)
    return opened(images / name, split)


def numbers(source):
    return [int(source.read(index)["image"][0, 0, 0]) for index in range(len(source))]


def refused(images, text, split="train", name="train.csv"):
    with pytest.raises(UserError) as caught:
        listed(images, text, split, name)
    return str(caught.value)


def test_images_are_those_of_the_lines_in_their_order(images):
    order = [3, 8, 1, 0]
    text = "".join(f"{path(n)},{('x', 'y')[n % 2]}\n" for n in order)
    for header in ("", "path,label\n", "Image,CLASS\n", "file_name,label\n"):
        source = listed(images, header + text)
        assert numbers(source) == order and source.labels.tolist() == [1, 0, 1, 0]
        assert source.class_names == ("x", "y") and source.found == "4 images in 2 classes"
    np.testing.assert_array_equal(source.read(1)["image"], picture(8))
    assert source.name(1) == "even/8.png" and source.describe(1) == f"{images}/even/8.png"


def test_two_lists_of_one_name_are_refused(images):
    (images / "train.csv").write_text(f"{path(0)},x\n")
    (images / "train.tsv").write_text(f"{path(1)}\tx\n")
    with pytest.raises(UserError, match=r"train\.csv and train\.tsv, and either could be"):
        opened(images)


def test_columns_go_by_their_names_and_others_are_left_alone(images):
    text = f'width\tlabel\tnote\tfile\n9\t5\t"a\tb"\t{path(4)}\n9\t12\t\t{path(5)}\n'
    for name in ("train.csv", "train.tsv"):
        source = listed(images, text, name=name)
        assert numbers(source) == [4, 5] and source.class_names == ("5", "12")


def test_paths_may_be_quoted_and_absolute_and_files_end_as_windows_ends_them(images):
    (images / "even" / 'a, "b".png').write_bytes(encoded(77))
    text = f'\ufeffpath,label\r\n"even/a, ""b"".png",1\r\n\r\n{images}/{path(2)},0\r\n'
    source = listed(images, text)
    assert numbers(source) == [77, 2] and source.labels.tolist() == [1, 0]
    assert source.describe(1) == f"{images}/{path(2)}"
    assert len(source.fingerprint) == 16


def test_images_without_a_label(images):
    source = listed(images, f"path,label\n{path(0)},cat\n{path(1)},\n{path(2)},-1\n")
    assert source.labels.tolist() == [0, -1, -1]
    assert source.found == "3 images in 1 class; 2 without labels"
    source = listed(images, f"{path(0)}\n{path(1)}\n")
    assert source.class_names == () and source.found == "2 images without labels"


def test_classes_that_are_listed_beside_it(images):
    (images / "classes.txt").write_text("ant\nbee\n")
    text = f"path,label\n{path(0)},1\n{path(1)},ant\n"
    source = listed(images, text)
    assert source.class_names == ("ant", "bee") and source.labels.tolist() == [1, 0]
    message = refused(images, f"{text}{path(2)},2\n")
    assert f"{images}/train.csv, line 4 has the label '2', which is none of the 2" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na.png,1\nb.png\n", "line 3 has 1 column and not 2"),
        ("path,label\na.png,1\nb.png,2,3\n", "line 3 has 3 columns and not 2"),
        ("a.png,1\n ,2\n", "line 2 has ' ' in place of an image's path"),
        ("a.png,1\n,2\n", "line 2 has '' in place of an image's path"),
        ('a.png,1\n"b.png,2\n', "line 2 cannot be read: unexpected end of data"),
        ('path,label\na.png,"two\nlines"\n', "line 3 has a label that is none"),
        ("path,image,label\na.png,b.png,1\n", "line 1 names 'path' and 'image'"),
        ("picture,target\na.png,1\n", "line 1 is 'picture', 'target'; expected a line of names"),
        ("a.png,1,2\n", "line 1 is 'a.png', '1', '2'; expected a line of names"),
        ("", "is empty; expected a line of names"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(images, text, said):
    assert f"{images}/train.csv" in refused(images, text)
    assert said in refused(images, text)


def test_splits_are_a_column(images):
    text = "path,label,split\n" + "".join(
        f"{path(n)},{n % 3},{'train' if n < 6 else 'val'}\n" for n in range(10)
    )
    source = listed(images, text, name="all.csv")
    assert numbers(source) == list(range(6))
    assert numbers(opened(images / "all.csv", "validation")) == [6, 7, 8, 9]
    # All lines say which classes there are.
    assert listed(images, text, "val", "all.csv").class_names == ("0", "1", "2")
    assert "no split 'test'; it has train, val" in refused(images, text, "test", "all.csv")


def test_splits_are_lists_of_their_names(images):
    for name, start in (("train.csv", 0), ("val.tsv", 6)):
        (images / name).write_text("".join(f"{path(n)}\n" for n in range(start, start + 3)))
    assert numbers(opened(images)) == [0, 1, 2] and numbers(opened(images, "val")) == [6, 7, 8]
    assert len(opened(images, "train[:2]+validation")) == 5
    with pytest.raises(UserError, match="no split 'validation'; it has train"):
        opened(images / "train.csv", "validation")
    for name in ("a.csv", "b.csv"):
        os.replace(images / {"a.csv": "train.csv", "b.csv": "val.tsv"}[name], images / name)
    with pytest.raises(UserError, match="holds the lists a, b, of which none is called 'train'"):
        opened(images)


def test_splits_are_drawn_as_those_of_a_folder(images):
    for number in range(10, 200):
        (images / path(number)).touch()
    everything = [path(n) for n in range(200)]
    (images / "all.csv").write_text("".join(f"{one}\n" for one in everything))
    found = {}
    for split in ("train", "validation", "test"):
        source = opened(images / "all.csv", split)
        assert source.found.endswith("drawn from 200 without labels")
        found[split] = {source.name(n) for n in range(len(source))}
        folder = open_source(f"folder:{images}", split, channels=3)
        assert found[split] == {folder.name(n) for n in range(len(folder))}
    assert sorted(set().union(*found.values())) == sorted(everything)


def test_a_folder_without_lists_and_a_list_that_is_not_there(images):
    with pytest.raises(UserError, match="holds no lists; expected one"):
        opened(images / "even")
    with pytest.raises(UserError, match=r"nothing\.csv cannot be read: No such file"):
        opened(images / "nothing.csv")


def test_a_file_that_is_not_there_is_named(images, monkeypatch):
    monkeypatch.setattr(reading, "_PAUSES", ())
    source = listed(images, "even/none.png,1\n")
    with pytest.raises(RunFailed, match=r"even/none\.png cannot be read: No such file"):
        source.read(0)


def test_fingerprints_are_of_lines_in_order(images):
    text = f"{path(0)},a\n{path(1)},b\n"
    found = listed(images, text).fingerprint
    assert listed(images, f"path,label\n{text}").fingerprint == found
    assert listed(images, f"{path(1)},b\n{path(0)},a\n").fingerprint != found
    assert listed(images, f"{path(0)},a\n{path(1)},c\n").fingerprint != found
    assert listed(images, f"{path(0)},b\n{path(1)},a\n").fingerprint != found


def test_a_worker_is_handed_little(images):
    text = "".join(f"class_{n % 50:04}/image_{n:08}.jpg,{n % 50}\n" for n in range(20_000))
    source = listed(images, text)
    data = pickle.dumps(source)
    assert len(data) < 64 * len(source)
    assert pickle.loads(data).name(19_999) == source.name(19_999)  # noqa: S301
