"""What a model said, in tables and files."""

import csv
import errno
import json
import os
import zipfile

import numpy as np
import pytest

from distill.analysis.prediction_files import read_predictions
from distill.errors import UserError
from distill.serving.answers import Answers

LOGITS = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], np.float32)
EMBEDDING = np.arange(8, dtype=np.float32).reshape(2, 4)


def answers(**changes):
    exps = np.exp(LOGITS)
    said = dict(
        names=("a b.jpg", 'c,"d".jpg'),
        class_names=("cat", "dög", "owl"),
        embedding=EMBEDDING,
        logits=LOGITS,
        probabilities=exps / exps.sum(-1, keepdims=True),
        about={"model": "x"},
    )
    return Answers(**said | changes)


def test_the_most_probable_come_first():
    found = answers()
    assert found.classes == ("dög", "cat")
    assert [name for name, _ in found.top(2)[0]] == ["dög", "owl"]
    assert found.top(9)[0][0][1] == pytest.approx(np.exp(2) / (1 + np.exp(2) + np.exp(1)))
    # Of equal ones, the first.
    assert [name for name, _ in found.top(3)[1]] == ["cat", "dög", "owl"]
    table = found.table(2).splitlines()
    assert "1st class" in table[0] and "66.5%" in table[2] and "dög" in table[2]


def test_text_files_hold_the_most_probable(tmp_path):
    answers().write(tmp_path / "a.csv", top=2)
    rows = list(csv.reader((tmp_path / "a.csv").open(encoding="utf-8")))
    assert rows[0] == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert rows[2][:2] == ['c,"d".jpg', "cat"] and float(rows[1][2]) == pytest.approx(0.665241)
    answers().write(tmp_path / "a.json", top=2)
    answers().write(tmp_path / "a.jsonl", top=2)
    whole = json.loads((tmp_path / "a.json").read_text())
    assert whole == [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert whole[0]["image"] == "a b.jpg" and len(whole[0]["classes"]) == 2


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_arrays_hold_all_scores_as_evaluations_read_them(tmp_path, suffix):
    pytest.importorskip("pyarrow")
    answers().write(tmp_path / f"a{suffix}")
    found = read_predictions(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.scores, LOGITS)
    assert found.class_names == ("cat", "dög", "owl") and list(found.labels) == [-1, -1]


def test_embeddings_are_written(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    bare = answers(class_names=(), logits=None, probabilities=None)
    bare.write(tmp_path / "a.npz", embeddings=True)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["embedding"], EMBEDDING)
        assert list(found["name"]) == ["a b.jpg", 'c,"d".jpg']
    bare.write(tmp_path / "a.parquet", embeddings=True)
    table = parquet.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), EMBEDDING)


@pytest.mark.parametrize(("name", "embeddings"), [("a.txt", False), ("a", True), ("a.csv", True)])
def test_other_files_are_refused(tmp_path, name, embeddings):
    with pytest.raises(UserError, match=r"files named .*\.npz, \.parquet"):
        answers().write(tmp_path / name, embeddings=embeddings)


def test_a_model_without_classes_has_none_to_tell(tmp_path):
    bare = answers(class_names=(), logits=None, probabilities=None)
    for ask in (lambda: bare.classes, bare.top, lambda: bare.write(tmp_path / "a.csv")):
        with pytest.raises(UserError, match="has no classes; it has embeddings"):
            ask()


KINDS = [
    *[(suffix, False) for suffix in (".csv", ".json", ".jsonl", ".npz", ".parquet")],
    *[(suffix, True) for suffix in (".npz", ".parquet")],
]


@pytest.mark.parametrize(("suffix", "embeddings"), KINDS)
def test_a_file_that_finds_no_room_stays_as_it_was(tmp_path, suffix, embeddings, monkeypatch):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet")
    file = tmp_path / f"a{suffix}"
    answers().write(file, embeddings=embeddings)
    before = file.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    # What joins the parts of predictions.
    monkeypatch.setattr(zipfile.ZipFile, "close", full)
    if suffix == ".parquet" and not embeddings:
        monkeypatch.setattr("pyarrow.parquet.ParquetWriter.close", full)
    with pytest.raises(OSError, match="No space") as caught:
        answers(class_names=("a", "b", "c")).write(file, embeddings=embeddings)
    assert caught.value.filename == str(file)
    assert file.read_bytes() == before and os.listdir(tmp_path) == [file.name]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    odd = answers(names=("a\udcff.jpg", "b\nc.jpg"))
    assert odd.table().splitlines()[2].startswith(r"a\xff.jpg")
    assert odd.table().splitlines()[3].startswith(r"b\nc.jpg")
    odd.write(tmp_path / "a.parquet")
    odd.write(tmp_path / "b.parquet", embeddings=True)
    assert list(read_predictions(tmp_path / "a.parquet").names) == [r"a\xff.jpg", "b\nc.jpg"]
    table = parquet.read_table(tmp_path / "b.parquet")
    assert table["name"].to_pylist() == [r"a\xff.jpg", "b\nc.jpg"]
