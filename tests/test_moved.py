import json
import os

import pytest
from support import run_python

from distill.errors import UserError
from distill.moved import CLAIM, Claimed, read_recorded


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """A run that was claimed in old/runs/student; it lies, with what it used, in new/deep."""
    for name in ("runs/student", "runs/teacher", "data"):
        (tmp_path / "new" / "deep" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return Claimed(
        tmp_path / "new" / "deep" / "runs" / "student", (f"{tmp_path}/old/runs/student",)
    )


@pytest.mark.parametrize(
    "recorded, found",
    [
        ("{old}/runs/teacher", "{new}/runs/teacher"),
        ("{old}/runs/student/export", None),
        ("{old}/runs/other", None),
        ("{old}/runs/teacher@50", "{new}/runs/teacher@50"),
        ("folder:{old}/data", "folder:{new}/data"),
        ("images:{old}/data", "images:{new}/data"),
        ("scans:{old}/data", "scans:{new}/data"),
        ("parquet:{old}/data/train-*.parquet", "parquet:{new}/data/train-*.parquet"),
        ("scans:{old}/data/{{a,b}}/0", "scans:{new}/data/{{a,b}}/0"),
        ("hf:{old}/data?image=x&label=y", "hf:{new}/data?image=x&label=y"),
        ("hf:{old}/gone?label=y", None),
        ("tfds:data", None),
        ("gs://bucket/x", None),
        ("{new}/data", None),
        ("a\0b", None),
        ("", None),
    ],
)
def test_a_path_that_is_gone_is_found_where_its_directory_is(moved, tmp_path, recorded, found):
    def named(text):
        return text.format(old=tmp_path / "old", new=tmp_path / "new" / "deep")

    tree = {"a": [{"b": named(recorded)}], "n": 1}
    expected = named(recorded if found is None else found)
    assert moved.found(tree) == {"a": [{"b": expected}], "n": 1}


def test_a_path_that_is_still_there_is_kept(moved, tmp_path):
    recorded = f"{tmp_path}/old/runs/teacher"
    os.makedirs(recorded)
    assert moved.found({"workdir": recorded}) == {"workdir": recorded}


def test_all_earlier_places_are_tried(tmp_path):
    (tmp_path / "c" / "teacher").mkdir(parents=True)
    claimed = Claimed(tmp_path / "c" / "run", (f"{tmp_path}/b/run", f"{tmp_path}/a/run"))
    for place in "ab":
        assert claimed.found(f"{tmp_path}/{place}/teacher") == f"{tmp_path}/c/teacher"


@pytest.mark.parametrize("key", ["workdir", "path", "targets", "source"])
def test_a_path_recorded_as_typed_is_looked_for_here_and_above_the_directory(
    moved, tmp_path, monkeypatch, key
):
    new = tmp_path / "new" / "deep"
    assert moved.found({key: "runs/teacher"}) == {key: f"{new}/runs/teacher"}
    assert moved.found({key: "runs/none"}) == {key: "runs/none"}
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    assert moved.found({key: "runs/teacher"}) == {key: f"{tmp_path}/runs/teacher"}
    assert moved.found({"name": "runs/teacher"}) == {"name": "runs/teacher"}


def test_what_lies_in_a_bucket_stays_whatever_lies_here(moved, tmp_path):
    for name in ("folder:s3://bucket/x", "wds:gs://bucket/x"):
        os.makedirs(tmp_path / name.partition(":")[2])
        assert moved.found({"data": {"source": name}}) == {"data": {"source": name}}


def test_the_name_of_a_data_source_is_no_path(moved, tmp_path):
    (tmp_path / "digits").mkdir()
    for recorded in ({"data": {"source": "digits"}}, {"evals": {"own": {"source": "digits"}}}):
        assert moved.found(recorded) == recorded


@pytest.mark.parametrize(
    "recorded, given, same",
    [
        ("{old}/runs/teacher", "{new}/runs/teacher", True),
        ("{old}/runs/teacher", "{new}/runs/other", False),
        ("{old}/runs/teacher", "{old}/runs/teacher", True),
        ("{new}/runs/teacher", "{old}/runs/teacher", False),
        ("{old}/runs/teacher@5", "{new}/runs/teacher@5", True),
        ("{old}/runs/teacher@5", "{new}/runs/teacher@6", False),
        ("folder:{old}/data", "folder:{new}/data", True),
        ("folder:{old}/data", "images:{new}/data", False),
        # Of a format that was added.
        ("scans:{old}/data", "scans:{new}/data", True),
        ("gs://b/data", "gs://b/data", False),
        ("runs/teacher", "{new}/runs/teacher", True),
        ("runs/teacher", "{here}/runs/teacher", True),
        ("folder:data", "folder:{here}/data", True),
        ("folder:~/data", "folder:{home}/data", True),
        ("{new}/runs/teacher", "{here}/link/runs/teacher", True),
        ("adam", "sgd", False),
    ],
)
def test_paths_are_the_same_where_they_are_as_far_from_the_directory(
    moved, tmp_path, monkeypatch, recorded, given, same
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    new = tmp_path / "new" / "deep"
    (tmp_path / "link").symlink_to(new)
    places = dict(old=tmp_path / "old", new=new, here=tmp_path, home=tmp_path / "home")
    recorded, given = recorded.format(**places), given.format(**places)
    aligned = moved.aligned({"x": [recorded], "y": 1}, {"x": [given], "z": 2})
    assert aligned == {"x": [given if same else recorded], "y": 1}


def test_a_claim_remembers_where_the_directory_was_and_keeps_what_else_is_there(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    Claimed.read(first).write({"data": {"images": 3}})
    assert json.loads((first / CLAIM).read_bytes()) == {
        "data": {"images": 3},
        "workdir": str(first),
    }
    first.rename(second)
    for _ in range(2):
        Claimed.read(second).write()
        assert json.loads((second / CLAIM).read_bytes()) == {
            "data": {"images": 3},
            "workdir": str(second),
            "earlier": [str(first)],
        }
    second.rename(first)
    Claimed.read(first).write()
    assert Claimed.read(first).places == (str(first), str(second))


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_damaged_claim_is_named(tmp_path, content):
    (tmp_path / CLAIM).write_text(content)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"claim\.json is damaged"):
        read_recorded(tmp_path / "config.json")


def test_names_are_found_that_another_locale_recorded(tmp_path):
    (tmp_path / "dätä").mkdir()
    claimed, path = Claimed(tmp_path / "run", ()), str(tmp_path / "dätä")
    recorded = path.encode().decode("ascii", "surrogateescape")
    assert claimed.aligned(recorded, path) == path
    assert claimed.found(recorded) == path
    script = (
        "import os; from pathlib import Path; from distill.moved import Claimed;"
        f"print(os.path.isdir(Claimed(Path('run'), ()).found({path!a})))"
    )
    locale_c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run_python("-c", script, env=os.environ | locale_c).stdout == "True\n"
