"""Which columns of a table are images and labels, and what classes are called."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from image_tables import FEATURES, NAMES, png, table, write_parquet
from PIL import Image

from distill.data import open_source
from distill.errors import UserError


def opened(path, split="train", **options):
    return open_source(f"parquet:{path}", split, channels=3, **options)


def test_images_are_decoded_and_labelled(tmp_path):
    write_parquet(
        tmp_path / "train.parquet", table([png(n) for n in range(5)], [2, -1, None, 0, 1])
    )
    source = opened(tmp_path)
    assert source.labels.tolist() == [2, -1, -1, 0, 1]
    for number in range(5):
        example = source.read(number)
        expected = np.asarray(Image.open(io.BytesIO(png(number))))
        assert np.array_equal(np.asarray(example["image"]), expected)
        assert example["label"] == source.labels[number]


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["bee", "ant", None, "bee"], ("ant", "bee"), [1, 0, -1, 1]),
        (pa.array(["b", "a", "b", "b"]).dictionary_encode(), ("a", "b"), [1, 0, 1, 1]),
        ([10, 2, 2, 10], ("2", "10"), [1, 0, 0, 1]),
    ],
)
def test_classes_without_names_are_the_labels(tmp_path, labels, names, numbers):
    write_parquet(
        tmp_path / "train.parquet", table([png(n) for n in range(4)], labels, features=None)
    )
    source = opened(tmp_path)
    assert source.class_names == names
    assert source.labels.tolist() == numbers


def test_a_class_that_is_called_by_anothers_number_is_itself(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["0", "10", "1"]}}
    write_parquet(tmp_path / "train.parquet", table([png(0)] * 3, [2, 1, 0], features=features))
    source = opened(tmp_path)
    assert source.class_names == ("0", "10", "1")
    assert source.labels.tolist() == [2, 1, 0]


CARD = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': ant
          '1': bee
          '2': cat
---
# Insects
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [("dataset_info.json", json.dumps({"features": FEATURES})), ("README.md", CARD)],
)
def test_names_of_classes_lie_beside_the_files(tmp_path, name, content):
    write_parquet(tmp_path / "data" / "train.parquet", table([png(0)] * 3, features=None))
    (tmp_path / name).write_text(content)
    assert opened(tmp_path).class_names == NAMES
    assert opened(tmp_path).labels.tolist() == [0, 1, 2]


def test_names_of_classes_may_change_beside_the_files(tmp_path):
    write_parquet(tmp_path / "train.parquet", table([png(0)] * 3, features=None))
    for names in (NAMES, ("x", "y", "z")):
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
        assert opened(tmp_path).class_names == names
        assert opened(tmp_path).labels.tolist() == [0, 1, 2]


def two_of_each(path):
    content = table([png(0), png(1)], [0, 1], features=None)
    for name, column in (("photo", "image"), ("species", "label")):
        content = content.append_column(name, content.column(column).slice(0))
    content = content.rename_columns(["id", "scan", "kind", "photo", "species"])
    return write_parquet(path, content)


def test_columns_are_named_where_several_could_be_meant(tmp_path):
    file = two_of_each(tmp_path / "train.parquet")
    # `photo` is what images may be called, `kind` and `species` are no label's usual names.
    assert opened(file).labels.tolist() == [-1, -1]
    assert opened(f"{file}?label=kind&image=scan").labels.tolist() == [0, 1]
    assert opened(f"{file}?label=species").class_names == ("0", "1")
    with pytest.raises(UserError, match=r"has no column 'spices'; did you mean 'species'"):
        opened(f"{file}?label=spices")
    with pytest.raises(UserError, match=r"column 'label' .* is double, which is no label"):
        opened(f"{write_parquet(tmp_path / 'x.parquet', table([png(0)], [0.5]))}?label=label")
    with pytest.raises(UserError, match="twice"):
        opened(f"{file}?label=kind&label=species")


def test_no_column_of_images_is_an_error_that_lists_what_there_is(tmp_path):
    file = write_parquet(tmp_path / "train.parquet", pa.table({"image": ["a.jpg"], "label": [0]}))
    with pytest.raises(UserError, match=r"no column of images.*image \(string\), label \(int64\)"):
        opened(file)
    both = table([png(0)], nested=False).rename_columns(["id", "first", "label"])
    both = both.append_column("second", both.column("first"))
    file = write_parquet(tmp_path / "both.parquet", both)
    with pytest.raises(UserError, match=r"first, second.*\?image=first"):
        opened(file)


def test_columns_of_all_files_are_those_of_the_first(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", table([png(0)]))
    write_parquet(tmp_path / "train-1.parquet", table([png(0)], nested=False))
    other = r"'image' of .*train-1\.parquet is of another type than that of .*train-0\.parquet"
    with pytest.raises(UserError, match=other):
        opened(tmp_path)
    write_parquet(tmp_path / "train-1.parquet", table([png(0)]).drop_columns("label"))
    with pytest.raises(UserError, match=r"has no column 'label'"):
        opened(tmp_path)
    other = {"label": {"_type": "ClassLabel", "names": ["x"]}}
    write_parquet(tmp_path / "train-1.parquet", table([png(0)], features=other))
    with pytest.raises(UserError, match=r"train-1\.parquet has other classes"):
        opened(tmp_path)


def test_labels_of_all_files_are_numbers_or_text(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", table([png(0)] * 2, [0, 1], features=None))
    text = write_parquet(tmp_path / "train-1.parquet", table([png(0)], ["1"], features=None))
    said = r"'label' of .*train-1\.parquet is string, but that of .*train-0\.parquet is int64"
    with pytest.raises(UserError, match=said):
        opened(tmp_path)
    text.unlink()
    numbers = pa.array([1, None], pa.int8()).dictionary_encode()
    write_parquet(tmp_path / "train-2.parquet", table([png(0)] * 2, numbers, features=None))
    nothing = pa.array([None], pa.null())
    write_parquet(tmp_path / "train-3.parquet", table([png(0)], nothing, features=None))
    assert opened(tmp_path).labels.tolist() == [0, 1, 1, -1, -1]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([0.0, 1.0], "double"),
        ([True, False], "bool"),
        ([[0], [1]], "list"),
        ([b"a", b"b"], "binary"),
    ],
)
def test_a_column_of_labels_that_cannot_be_them_is_named(tmp_path, labels, kind):
    file = write_parquet(tmp_path / "train.parquet", table([png(0)] * 2, labels, features=None))
    with pytest.raises(UserError, match=rf"'label' of .*train\.parquet is {kind}.*label=none"):
        opened(file)
    assert opened(f"{file}?label=none").labels.tolist() == [-1, -1]
    assert opened(f"{tmp_path}?label=id").labels.tolist() == [0, 1]


def test_no_labels_are_asked_for_of_all_files(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", table([png(0)]).drop_columns("label"))
    write_parquet(tmp_path / "train-1.parquet", table([png(0)]))
    with pytest.raises(UserError, match=r"train-1\.parquet has labels in 'label', but .*train-0"):
        opened(tmp_path)
    assert opened(f"{tmp_path}?label=none").labels.tolist() == [-1, -1]


def test_what_is_named_after_the_path_is_known(tmp_path):
    file = write_parquet(tmp_path / "train.parquet", table([png(0)]))
    with pytest.raises(UserError, match=r"names 'lable'; expected PATH.*did you mean 'label'\?"):
        opened(f"{file}?lable=id")
    with pytest.raises(UserError, match=r"names 'split'; expected PATH"):
        opened(f"{file}?label=id&split=train")
    with pytest.raises(UserError, match="names no column after label="):
        opened(f"{file}?image=image&label=")
    odd = write_parquet(tmp_path / "odd?lable=id" / "train.parquet", table([png(0)]))
    assert len(opened(odd.parent)) == 1


@pytest.mark.parametrize("label", [3, -2])
def test_a_label_of_no_class_is_named(tmp_path, label):
    write_parquet(tmp_path / "train.parquet", table([png(0)] * 2, [0, label]))
    with pytest.raises(UserError, match=rf"train\.parquet row 1: the label {label} .* below 3"):
        opened(tmp_path)
