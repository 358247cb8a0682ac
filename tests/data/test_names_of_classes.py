"""Names of classes that are no line of text are refused when data is opened, and shown escaped."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, open_source
from distill.data.sources.class_lists import checked_names, lines_of_text
from distill.errors import UserError

# What names hold, and how it is shown; of a text file, whether it is a name of its own.
BAD = {
    "bytes": (b"caf\xe9", r"b'caf\xe9' is not UTF-8"),
    "line break": (b"a\nb", r"'a\nb' has the control character '\n'"),
    "carriage return": (b"a\rb", r"'a\rb' has the control character '\r'"),
    "escape": (b"a\x1b[2Jb", r"'a\x1b[2Jb' has the control character '\x1b'"),
    "delete": (b"a\x7f", r"'a\x7f' has the control character '\x7f'"),
    "next line": ("a\x85b".encode(), r"'a\x85b' has the control character '\x85'"),
    "line separator": ("a\u2028b".encode(), r"'a\u2028b' has the control character '\u2028'"),
}
BLANK = {"blank": (b"  ", "'  ' has no letters")}


def png():
    data = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


PNG = png()


def in_folders(root, name):
    for folder in (name, b"ok"):
        place = os.path.join(os.fsencode(root), b"train", folder)
        os.makedirs(place)
        with open(os.path.join(place, b"x.png"), "wb") as file:
            file.write(PNG)
    return f"folder:{root}"


def in_tars(root, name, by):
    members = {b"0.png": PNG}
    if by == "folder":
        members = {name + b"/0.png": PNG}
    elif by == "cls":
        members[b"0.cls"] = name
    elif by == "json":
        members[b"0.json"] = json.dumps({"label": os.fsdecode(name)}).encode()
    else:
        members[b"0.cls"] = b"0"
        (root / "classes.json").write_text(json.dumps([os.fsdecode(name), "ok"]))
    with tarfile.open(root / "train-0.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(os.fsdecode(member))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return f"wds:{root}"


def in_a_list(root, name):
    (root / "x.png").write_bytes(PNG)
    (root / "train.csv").write_bytes(b'path,label\nx.png,"' + name + b'"\nx.png,ok\n')
    return f"list:{root / 'train.csv'}"


def in_parquet(root, name, by):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    text = os.fsdecode(name)
    if by == "text":
        if not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text):
            pytest.skip("Arrow's strings are UTF-8")
        labels, about = [text, "ok"], {}
    else:
        labels = [0, 1]
        label = {"names": [text, "ok"], "_type": "ClassLabel"}
        about = {"huggingface": json.dumps({"info": {"features": {"label": label}}})}
    table = pyarrow.table({"image": [PNG, PNG], "label": labels}).replace_schema_metadata(about)
    parquet.write_table(table, root / "train-0.parquet")
    return f"parquet:{root}"


WAYS = {
    "folders": in_folders,
    **{f"tars by {by}": (lambda r, n, by=by: in_tars(r, n, by)) for by in ("folder", "cls")},
    **{f"tars by {by}": (lambda r, n, by=by: in_tars(r, n, by)) for by in ("json", "classes.json")},
    "list": in_a_list,
    **{f"parquet by {by}": (lambda r, n, by=by: in_parquet(r, n, by)) for by in ("text", "names")},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", BAD)
def test_a_name_that_is_no_line_of_text_is_refused_when_data_is_opened(tmp_path, way, bad):
    name, shown = BAD[bad]
    source = WAYS[way](tmp_path, name)
    with pytest.raises(UserError) as error:
        open_source(source, "train", channels=3)
    message = str(error.value)
    assert message.isprintable() and str(tmp_path) in message
    if (way, bad) != ("tars by cls", "bytes"):
        assert shown in message


@pytest.mark.parametrize("way", ["folders", "tars by classes.json", "parquet by names"])
def test_a_blank_name_is_refused_where_it_is_one(tmp_path, way):
    name, shown = BLANK["blank"]
    with pytest.raises(UserError) as error:
        open_source(WAYS[way](tmp_path, name), "train", channels=3)
    assert shown in str(error.value)


@pytest.mark.parametrize("bad", BAD)
def test_a_class_map_and_lists_of_classes_give_no_such_names(tmp_path, bad):
    name, shown = BAD[bad]
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"0": os.fsdecode(name)}))
    with pytest.raises(UserError, match=r"class_map .*map\.json names a class that cannot be") as e:
        DataConfig(source="digits", class_map=str(file)).open("train", channels=1)
    assert shown in str(e.value)
    for read in (checked_names, lines_of_text):
        with pytest.raises(UserError, match="tfds:x names a class that cannot be"):
            read(["ok", os.fsdecode(name)], "tfds:x")


def test_names_of_any_script_are_kept_and_each_is_there_once(tmp_path):
    names = ["café", "犬", "سگ", "a b", "x.y-z"]
    assert checked_names(names, "here") == tuple(names)
    with pytest.raises(UserError, match="here has the class 'café' twice; give each its own name"):
        checked_names([*names, "cafe\u0301"], "here")
    (tmp_path / "train").mkdir()
    source = in_folders(tmp_path, "犬".encode())
    assert open_source(source, "train", channels=3).class_names == ("ok", "犬")


def test_a_number_below_0_names_no_class(tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.jpg,0\nb.jpg,-1\nc.jpg,-2\n")
    with pytest.raises(UserError, match=r"line 4 has a label that is none: label '-2' is below 0"):
        open_source(f"list:{tmp_path / 'list.csv'}", "train", channels=3)
