"""Tables by anybody, and CelebA's lists."""

import numpy as np
import pytest

from distill.analysis.celeba import read_attributes, read_partition
from distill.analysis.prediction_files import write_predictions
from distill.analysis.predictions import Predictions
from distill.analysis.tables import read_csv, read_table
from distill.errors import UserError

ATTRIBUTES = """3
Attractive  Male Smiling
000001.jpg -1  1  1
000002.jpg  1 -1 -1

000003.jpg\t-1 -1  1
"""
PARTITION = "000001.jpg 0\n000002.jpg   1\n000003.jpg 2\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "t.csv"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


def test_columns_go_by_name_whatever_their_order(write):
    file = write('\ufeffs,my score,y\r\n"a, b",0.25,1\r\n\r\nc,1e0,0\r\n')
    table = read_csv(file)
    assert table.texts("s").tolist() == ["a, b", "c"]
    assert table.numbers("my score", 0, 1).tolist() == [0.25, 1.0]
    assert table.binary("y").tolist() == [True, False]
    assert table.lines.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("1 0", [1, 0]),
        ("1 -1", [1, 0]),
        ("true False", [1, 0]),
        ("1.0 0.0", [1, 0]),
        ("0 0", [0, 0]),
    ],
)
def test_yes_and_no_are_written_in_several_ways(write, cells, expected):
    first, second = cells.split()
    table = read_csv(write(f"y\n{first}\n{second}\n"))
    assert table.binary("y").tolist() == [bool(one) for one in expected]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"t\.csv is empty; expected CSV, a header"),
        ("a,b\n", r"t\.csv holds no rows below its header"),
        ("a,b\n1,2\n3\n", r"t\.csv, line 3: 1 values; expected 2, as the columns are 'a', 'b'"),
        ("a,a\n1,2\n", r"t\.csv, line 1: the column 'a' is there twice"),
        ('a,b\n1,"2\n', r"t\.csv, line 2: unexpected end of data; expected CSV"),
        (b"a\n\xff\n", r"t\.csv is not UTF-8 text"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(write, content, message):
    with pytest.raises(UserError, match=message):
        read_csv(write(content))


def test_a_missing_file_is_said(tmp_path):
    for read in (read_csv, read_attributes, read_partition, read_table):
        with pytest.raises(UserError, match="cannot be read: No such file"):
            read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_attributes(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("content", "ask", "message"),
    [
        (
            "p\n0.5\nnan\n",
            lambda t: t.numbers("p", 0, 1),
            "line 3: p is 'nan'; expected a number f",
        ),
        (
            "p\n1.5\n",
            lambda t: t.numbers("p", 0, 1),
            "line 2: p is '1.5'; expected a number from 0",
        ),
        ("p\nx\n", lambda t: t.numbers("p"), "line 2: p is 'x'; expected a number$"),
        ("p\n1\n2\n", lambda t: t.binary("p"), "line 3: p is '2'; expected 1 or 0, 1 or -1"),
        ("p\n1\n\n0\n-1\n", lambda t: t.binary("p"), "line 5: p is -1 here and 0 elsewhere"),
        ("p,q\n1,\n", lambda t: t.texts("q"), "line 2: q is empty"),
        ("score\n1\n", lambda t: t.texts("scor"), "no column 'scor'; did you mean 'score'"),
        (
            "s\nval\n",
            lambda t: t.of_split("s", "test", "--to"),
            "no row has 'test' in .* expected one of 'val'; say which by --to=",
        ),
        ("a;b\n1;2\n", lambda t: t.texts("b"), "no column 'b'.* separated by ';'; expected commas"),
    ],
)
def test_a_cell_that_is_not_as_asked_for_is_refused_with_its_line(write, content, ask, message):
    file = write(content)
    with pytest.raises(UserError, match=message) as caught:
        ask(read_csv(file))
    assert str(file) in str(caught.value)


def test_a_split_keeps_the_lines_of_its_rows(write):
    table = read_csv(write("s,p\nval,0\ntest,x\nval,1\ntest,0\n")).of_split(
        "s", "test", "--apply_to"
    )
    assert table.lines.tolist() == [3, 5] and table.source.endswith("t.csv (test)")
    with pytest.raises(UserError, match=r"\(test\), line 3: p is 'x'"):
        table.numbers("p")


def test_images_are_joined_by_name_with_or_without_their_path(write):
    table = read_csv(write("name,p\nfaces/b.jpg,1\na.jpg,0\n"))
    more = read_csv(write("image,g,h\na.jpg,x,1\nb.jpg,y,2\nc.jpg,z,3\n", "more.csv"))
    joined = table.joined(more)
    assert list(joined.columns) == ["name", "p", "g", "h"]
    assert joined.texts("g").tolist() == ["y", "x"]
    whole = read_csv(write("image,g\nb.jpg,x\nfaces/b.jpg,y\na.jpg,z\n", "whole.csv"))
    assert table.joined(whole).texts("g").tolist() == ["y", "z"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("image,g\na.jpg,x\n", r"more\.csv lacks 1 of 2 images of .*t\.csv, the first 'b\.jpg'"),
        ("image,g\na.jpg,x\nb.jpg,y\na.jpg,x\n", r"line 4: a\.jpg was on line 2 already"),
        ("image,p\na.jpg,x\nb.jpg,y\n", "the column 'p' is in .*t.csv and in .*"),
    ],
)
def test_images_that_cannot_be_joined_are_named(write, more, message):
    table = read_csv(write("name,p\na.jpg,0\nb.jpg,1\n"))
    with pytest.raises(UserError, match=message):
        table.joined(read_csv(write(more, "more.csv")))


def test_what_is_wrong_in_a_joined_column_is_named_by_the_file_that_holds_it(write):
    table = read_csv(write("name,p\na,0.5\nb,0.5\n"))
    more = read_csv(write("image,y,s\nx,1,m\nb,,m\na,1,m\n", "more.csv"))
    joined = table.joined(more).where(np.array([False, True]))
    with pytest.raises(UserError, match=r"more\.csv, line 3: y is ''"):
        joined.binary("y")
    with pytest.raises(UserError, match=r"/t\.csv, line 3: p is '0\.5'; expected .* from 0 to 0"):
        joined.numbers("p", 0, 0)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_missing_group_is_refused_by_files_of_predictions_and_by_csv(write, tmp_path, suffix):
    file = tmp_path / f"p{suffix}"
    predictions = Predictions(
        scores=np.eye(2),
        class_names=("no", "yes"),
        labels=np.array([0, 1]),
        names=np.array(["a", "b"]),
        columns={"sex": np.array(["m ", " "]), "age": np.array([1.0, np.nan])},
    )
    write_predictions(file, predictions)
    for name in ("sex", "age"):
        with pytest.raises(UserError, match=rf"p\{suffix}, line 2: {name} is empty"):
            read_table(file, "yes").texts(name)
    assert read_table(file, "yes").where(np.array([0])).texts("sex").tolist() == ["m"]
    table = read_csv(write("sex,age\nm ,1\n , \n"))
    for name in ("sex", "age"):
        with pytest.raises(UserError, match=rf"t\.csv, line 3: {name} is empty"):
            table.texts(name)
    assert table.where(np.array([0])).texts("sex").tolist() == ["m"]


def test_what_is_null_in_a_parquet_file_is_missing(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    logits = arrow.FixedSizeListArray.from_arrays(arrow.array([1.0, 0.0, 0.0, 1.0]), 2)
    columns = {"logits": logits, "text": ["m", None], "number": [1, None], "bool": [None, True]}
    parquet.write_table(arrow.table(columns), tmp_path / "p.parquet")
    table = read_table(tmp_path / "p.parquet", "1")
    for name, line in {"text": 2, "number": 2, "bool": 1}.items():
        with pytest.raises(UserError, match=f"line {line}: {name} is empty"):
            table.texts(name)


def test_celebas_texts_and_their_copies_as_csv_say_the_same(write):
    as_csv = "image_id,Attractive,Male,Smiling\n000001.jpg,-1,1,1\n000002.jpg,1,-1,-1\n"
    tables = [
        read_attributes(write(ATTRIBUTES, "list_attr_celeba.txt")),
        read_attributes(write(as_csv + "000003.jpg,-1,-1,1\n", "list_attr_celeba.csv")),
    ]
    for table in tables:
        assert list(table.columns) == ["image_id", "Attractive", "Male", "Smiling"]
        assert table.binary("Male").tolist() == [True, False, False]
        assert table.texts("Smiling").tolist() == ["1", "-1", "1"]
    assert tables[0].lines.tolist() == [3, 4, 6]
    header = "image_id,partition\n"
    for file in (
        write(PARTITION, "list_eval_partition.txt"),
        write(header + PARTITION.replace("   ", ",").replace(" ", ","), "list_eval_partition.csv"),
    ):
        table = read_partition(file)
        assert table.texts("partition").tolist() == ["train", "validation", "test"]
        assert table.texts("image_id").tolist() == [f"00000{n}.jpg" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("3\n", ""), "line 1: expected the number of images alone"),
        (("3\n", "4\n"), "line 1: 4 images are announced, 3 follow"),
        (("1 -1 -1", "1 -1"), "line 4: 2 values; expected 3"),
        (("1 -1 -1", "1 0 -1"), "line 4: the value '0'; expected 1 or -1"),
        (("Male", "Smiling"), "line 2: the column 'Smiling' is there twice"),
    ],
)
def test_what_is_wrong_in_celebas_attributes_is_named_by_line(write, change, message):
    with pytest.raises(UserError, match=message):
        read_attributes(write(ATTRIBUTES.replace(*change), "a.txt"))


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_empty_lists_of_celeba_are_refused(write, suffix):
    for read in (read_attributes, read_partition):
        with pytest.raises(UserError, match=f"p.{suffix}"):
            read(write("", f"p.{suffix}"))


def test_what_is_wrong_in_celebas_partition_is_named_by_line(write):
    with pytest.raises(UserError, match="line 2: the partition is '3'; expected 0"):
        read_partition(write(PARTITION.replace("   1", "   3"), "p.txt"))
    with pytest.raises(UserError, match="line 2: 1 values; expected 2"):
        read_partition(write(PARTITION.replace("   1", ""), "p.txt"))
    with pytest.raises(UserError, match="no column 'image_id'"):
        read_partition(write("name,partition\na,0\n", "p.csv"))


def test_predictions_are_a_table_of_one_class(tmp_path):
    predictions = Predictions(
        scores=np.array([[0.25, 0.75], [1.0, 0.0]]),
        scale="probabilities",
        class_names=("no", "Smiling"),
        labels=np.array([1, 0]),
        names=np.array(["a.jpg", "b.jpg"]),
        columns={"Male": np.array([1, -1])},
    )
    file = tmp_path / "p.npz"
    write_predictions(file, predictions)
    table = read_table(file, "Smiling")
    assert table.numbers("score", 0, 1).tolist() == [0.75, 0]
    assert table.binary("label").tolist() == [True, False]
    assert table.texts("Male").tolist() == ["1", "-1"]
    with pytest.raises(UserError, match=r"name the class .*--positive=CLASS"):
        read_table(file)
    with pytest.raises(UserError, match="0 of 2 classes are called 'smiling'; did you mean 'Smil"):
        read_table(file, "smiling")
