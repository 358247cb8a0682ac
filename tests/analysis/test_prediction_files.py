"""Predictions as files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from distill.analysis.prediction_files import (
    PredictionsWriter,
    check_writable,
    read_predictions,
    refuse_other,
    write_predictions,
)
from distill.analysis.predictions import Predictions
from distill.errors import UserError


def _predictions(count: int = 7, classes: int = 3) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        scores=rng.normal(size=(count, classes)).astype(np.float32),
        class_names=("one", "two", "two")[:classes],
        labels=np.arange(count) % (classes + 1) - 1,
        names=np.array([f"ä/{'x' * number}.jpg" for number in range(count)]),
        columns={"group": np.arange(count) % 2, "kind": np.array(["a", "bc"] * count)[:count]},
        about={"model": "runs/one", "step": 3},
    )


def _assert_same(one: Predictions, other: Predictions):
    assert one.class_names == other.class_names and one.scale == other.scale
    assert one.about == other.about and one.columns.keys() == other.columns.keys()
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.names.tolist() == other.names.tolist()
    for name, column in one.columns.items():
        assert column.tolist() == other.columns[name].tolist()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_holds_what_was_written(tmp_path, suffix):
    file = tmp_path / f"p{suffix}"
    write_predictions(file, _predictions())
    _assert_same(read_predictions(file), _predictions())
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_an_interrupted_file_goes_on_where_its_parts_end(tmp_path, suffix):
    file, whole = tmp_path / f"p{suffix}", _predictions()

    def part(writer: PredictionsWriter, begin: int, end: int):
        some = whole.where(np.arange(begin, end))
        own = {"logits": some.scores, "label": some.labels, "name": some.names}
        writer.write({**own, **some.columns}, end)

    def writer() -> PredictionsWriter:
        return PredictionsWriter(file, class_names=whole.class_names, about=whole.about)

    part(writer(), 0, 2)
    again = writer()
    assert again.position == 2 and not file.exists()
    part(again, 2, 7)
    again.finish()
    _assert_same(read_predictions(file), whole)


def test_parts_of_other_predictions_are_not_gone_on_with(tmp_path):
    file = tmp_path / "p.npz"
    writer = PredictionsWriter(file, class_names=("one",), about={"model": "a"})
    writer.write({"logits": np.zeros((1, 1))}, 1)
    with pytest.raises(UserError, match="parts of other predictions"):
        PredictionsWriter(file, class_names=("one",), about={"model": "b"})


def test_another_programs_file_needs_scores_alone(tmp_path):
    np.savez(tmp_path / "p.npz", probabilities=np.array([[0.25, 0.75]]))
    found = read_predictions(tmp_path / "p.npz")
    assert found.class_names == ("0", "1") and found.labels.tolist() == [-1]
    assert found.names.tolist() == ["0"]
    np.testing.assert_array_equal(found.probabilities(), [[0.25, 0.75]])


def test_softmax_of_large_logits_stays_finite():
    scores = np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32)
    found = Predictions(
        scores=scores,
        class_names=("a", "b"),
        labels=np.array([0, 1]),
        names=np.array(["x", "y"]),
    )
    np.testing.assert_array_equal(found.probabilities(), [[1, 0], [0, 1]])


def _zip(file: Path, members: dict[str, bytes]):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "it holds nothing; expected one of 'logits' and 'probabilities'"),
        ({"logits": np.zeros((1, 2)), "probabilities": np.ones((1, 1))}, "expected one of"),
        ({"logits": np.zeros(3)}, r"'logits' is float64 of the shape \(3,\)"),
        ({"logits": np.array([["a"]])}, "expected numbers"),
        ({"logits": np.zeros((2, 2)), "label": np.zeros(3, int)}, r"labels of the shape \(3,\)"),
        ({"logits": np.zeros((1, 2)), "label": np.array([0.5])}, "'label' is float64"),
        ({"logits": np.zeros((1, 2)), "label": np.array([2])}, "the label of 0 is 2"),
        ({"logits": np.zeros((1, 2)), "class_names": np.array(["a"])}, "1 names of classes"),
        (
            {"logits": np.array([[0.0, np.nan]]), "name": np.array(["x.jpg"])},
            "not all scores are finite: in 1 of ",
        ),
        ({"probabilities": np.array([[0.2, 0.7]])}, "are no probabilities: they sum up to 0.9"),
        ({"probabilities": np.array([[-0.5, 1.5]])}, "the least is -0.5"),
    ],
)
def test_what_is_no_predictions_is_refused_with_the_files_name(tmp_path, arrays, message):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        read_predictions(tmp_path / "p.npz")
    assert str(tmp_path / "p.npz") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.npz", b"no zip", "cannot be read as predictions: it is no .npz file, which is a zip"),
        ("p.parquet", b"PAR1 no parquet", "cannot be read as predictions"),
        ("p.csv", b"", r"must end in one of .npz, .parquet"),
    ],
)
def test_damaged_files_and_unknown_formats_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / name)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read_predictions(tmp_path / "p.npz")


def test_objects_in_a_file_are_not_unpickled(tmp_path):
    file = tmp_path / "p.npz"
    np.savez(file, logits=np.array([[{"a": 1}]], dtype=object))
    with pytest.raises(UserError, match="cannot be read as predictions: 'logits' is no array of"):
        read_predictions(file)


def test_what_is_said_of_predictions_is_json(tmp_path):
    file = tmp_path / "p.npz"
    write_predictions(file, _predictions())
    with np.load(file) as arrays:
        assert json.loads(str(arrays["about"])) == {"model": "runs/one", "step": 3}


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_of_other_predictions_is_not_replaced(tmp_path, suffix):
    file, mine = tmp_path / f"p{suffix}", _predictions()
    refuse_other(file, mine.class_names, mine.about)
    write_predictions(file, mine)
    refuse_other(file, mine.class_names, mine.about)
    for names, about in ((mine.class_names, {"step": 4}), (("x", *mine.class_names), mine.about)):
        with pytest.raises(UserError, match=r"another model, .*another --output"):
            refuse_other(file, names, about)


def test_the_directory_of_a_file_is_made(tmp_path):
    check_writable(tmp_path / "new" / "er" / "p.npz")
    assert (tmp_path / "new" / "er").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file cannot be made: "):
        check_writable(tmp_path / "file" / "p.npz")
