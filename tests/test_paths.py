import os
import pwd
from pathlib import Path

import pytest
from support import REPOSITORY, run_command, run_python

from distill.config import ConfigError, load_file, resolve, to_dict
from distill.data import Store
from distill.data.preparing import Preparation, prepare
from distill.data.sources import open_source, source_name
from distill.errors import UserError
from distill.paths import (
    check_reachable,
    check_utf8,
    data_path,
    local_or_bucket_path,
    local_or_remote_path,
    local_path,
    map_or_order,
    memory_or_path,
    path_argument,
    text_of,
    user_cache,
)
from distill.runs.distillation import DistillConfig
from distill.runs.weights import WeightsConfig
from distill.train.workdir import Workdir, read_config
from pipelines.finetune import FinetuneConfig, complete
from pipelines.pretrain import PretrainConfig
from pipelines.scaling_study import StudyConfig

REMOTE = ("gs://bucket/run", "s3://bucket", "hdfs://host/x", "http://a/b", "file://host/x", "gs:/b")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return home


@pytest.mark.parametrize(
    "text, expected",
    [
        ("~", "{home}"),
        ("~/run", "{home}/run"),
        ("run", "{here}/run"),
        ("./a/../b//c/", "{here}/b/c"),
        ("/x/run@5", "/x/run@5"),
        ("./~x", "{here}/~x"),
        ("file:///a%20b/%C3%A9", "/a b/é"),
        ("file://localhost/x", "/x"),
        ("file:/x", "/x"),
        ("c:/x", "{here}/c:/x"),
        (" ", None),
        ("", None),
        ("a\0b", None),
        ("file:///a%00", None),
        ("~no-such-user/x", None),
        *((text, None) for text in REMOTE),
    ],
)
def test_a_text_becomes_an_absolute_path_or_is_refused_by_name(text, expected, home):
    if expected is None:
        with pytest.raises(UserError, match=r"^--flag is ") as caught:
            local_path(text, "--flag")
        assert repr(text) in str(caught.value)
    else:
        assert local_path(text) == expected.format(home=home, here=Path.cwd())


def test_a_users_home_directory_is_known():
    user = pwd.getpwuid(os.getuid())
    assert local_path(f"~{user.pw_name}/x") == os.path.join(user.pw_dir, "x")


def test_links_are_kept(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "here")
    assert local_path(str(tmp_path / "link" / "x")) == str(tmp_path / "link" / "x")


def test_what_is_remote_is_told_how_to_become_local():
    with pytest.raises(UserError, match=r"expected a local path.*gcsfuse.*copy"):
        local_path("gs://bucket")


@pytest.mark.parametrize(
    "text, place", [("gs://bucket/a/b c/", "gs://bucket/a/b c"), ("s3://b/x", "s3://b/x")]
)
def test_a_directory_in_a_bucket_is_named_alike(text, place):
    assert local_or_bucket_path(text) == place
    assert local_or_bucket_path("~/x") == os.path.expanduser("~/x")


@pytest.mark.parametrize("rest", ["", "b", "b/", "/x", "b//x", "b/../x", "b/./x", "b/x\n", "b/x?y"])
def test_what_names_no_directory_in_a_bucket_is_refused(rest):
    with pytest.raises(UserError, match="expected s3://BUCKET/PATH"):
        local_or_bucket_path(f"s3://{rest}", "--workdir")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gs://bucket", "gs://bucket"),
        ("s3://b//", "s3://b"),
        ("s3://b/{a,b}-?.tar/", "s3://b/{a,b}-?.tar"),
    ],
)
def test_data_in_a_bucket_is_named_alike(text, place):
    assert data_path(text) == place
    assert data_path("~/x") == os.path.expanduser("~/x")


@pytest.mark.parametrize("rest", ["", "/x", "b//x", "b/../x", "b/./x", "b/\n"])
def test_what_names_no_data_in_a_bucket_is_refused(rest):
    with pytest.raises(UserError, match=r"source is 's3://.*'; expected s3://BUCKET/PATH"):
        data_path(f"s3://{rest}", "source")


@pytest.mark.parametrize("text", ["s3:/data/x", "S3://data/x", "az://data/x", "https://x.org/y"])
def test_data_elsewhere_is_refused_with_what_can_be_named(text):
    with pytest.raises(UserError, match=r"source is .*expected a local path, s3://BUCKET/PATH or"):
        data_path(text, "source")


@pytest.mark.parametrize("text", ["gs://bucket/x", "s3://b"])
def test_remote_paths_are_kept_where_they_can_be_read(text):
    assert local_or_remote_path(text) == text
    assert local_or_remote_path("~/x") == os.path.expanduser("~/x")


@pytest.mark.parametrize("kind", ["folder", "images"])
def test_a_path_in_the_name_of_a_data_source_is_one(kind, home):
    assert source_name(f"{kind}:~/data") == f"{kind}:{home}/data"
    assert source_name(f"{kind}:gs://b/data/") == f"{kind}:gs://b/data"
    with pytest.raises(UserError, match="hdfs://b"):
        source_name(f"{kind}:hdfs://b")


@pytest.mark.parametrize("name", ["digits", "tfds:cifar10", "tfds:a/b:1.0.0", "folder:"])
def test_other_names_of_data_sources_are_kept(name):
    assert source_name(name) == name


@pytest.mark.parametrize("inside", ["x", "x/y", "n" * 300])
def test_a_path_that_cannot_be_is_refused_in_every_reader(tmp_path, inside):
    file = tmp_path / "file"
    file.write_text("")
    path = file / inside
    with pytest.raises(UserError, match="cannot be"):
        check_reachable(path)
    with pytest.raises(UserError, match="workdir cannot be"):
        read_config(path)
    with pytest.raises(UserError, match="image folder cannot be"):
        open_source(f"folder:{path}", "train", channels=3)
    with pytest.raises(UserError, match="--config cannot be"):
        load_file(f"{path}.py")
    with pytest.raises(UserError, match="targets cannot be"):
        Store(path)
    with pytest.raises(UserError, match=r"weights\.path cannot be"):
        WeightsConfig(path=str(path)).open("float32")
    assert check_reachable(tmp_path / "none" / "x") == tmp_path / "none" / "x"


def test_a_workdir_that_is_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a directory"):
        read_config(tmp_path / "file")


def _schema(schema, file, **overrides):
    tree = load_file(str(REPOSITORY / "configs" / file))
    return resolve(schema, tree, overrides)


DISTILL = (DistillConfig, "distill/digits.py", {"teacher.workdir": "/t"})
ALONE = {"teacher": "none", "targets": "/t"}
START = (FinetuneConfig, "finetune/digits.py", {"start.workdir": "/s"})
PRETRAIN = (PretrainConfig, "pretrain/digits.py", {})
# Every key that holds a path: the config it is in, and how its value is written.
KEYS = {
    "teacher.workdir": (*DISTILL, "{}"),
    "teachers.a.workdir": (DistillConfig, "distill/digits.py", {"teacher": "none"}, "{}"),
    "teacher.weights.path": (DistillConfig, "distill/published.py", {}, "{}"),
    "targets": (DistillConfig, "distill/digits.py", ALONE, "{}"),
    "start.workdir": (*DISTILL, "{}"),
    "students.a.start.workdir": (
        DistillConfig,
        "distill/digits.py",
        {
            "teacher.workdir": "/t",
            "students.a.model.family": "vit",
            "students.a.model.variant": "S/4",
        }
        | {"model": "none"},
        "{}",
    ),
    "branch_from": (*PRETRAIN, "{}@5"),
    "data.source": (*PRETRAIN, "folder:{}"),
    "data.eval_source": (*PRETRAIN, "images:{}"),
    "data.data_dir": (*PRETRAIN, "{}"),
    "transfer.sources": (*PRETRAIN, "('folder:{}', 'digits')"),
    "base.data.source": (StudyConfig, "scaling/digits.py", {}, "folder:{}"),
    "base.data.data_dir": (StudyConfig, "scaling/digits.py", {}, "{}"),
}


def _value(config, key):
    value = to_dict(config)
    for part in key.split("."):
        value = value[part]
    return value[0] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("read", "word", "others"),
    [
        (memory_or_path, "ram", ("ram:", "RAM", " ram")),
        (map_or_order, "in_order", ("in-order", "inorder", "In_Order")),
    ],
)
def test_a_word_in_place_of_a_path_is_told_from_what_resembles_it(read, word, others):
    assert read(word) == word
    assert read(f"./{word}") == f"{Path.cwd()}/{word}"
    for text in others:
        with pytest.raises(UserError, match=rf"is '{text}'; did you mean '{word}'\?"):
            read(text)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["~/x", "x"])
def test_a_key_that_holds_a_path_is_recorded_absolute(key, text, home):
    schema, file, others, form = KEYS[key]
    config = resolve(
        schema,
        load_file(str(REPOSITORY / "configs" / file)),
        others | {key: form.format(text)},
    )
    absolute = f"{home}/x" if text == "~/x" else f"{Path.cwd()}/x"
    expected = form.format(absolute)
    assert _value(config, key) == (expected if "(" not in form else f"folder:{absolute}")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["gs://bucket/x", "hdfs://host/x", "~no-such-user/x"])
def test_a_key_that_holds_a_path_refuses_what_is_none(key, text):
    schema, file, others, form = KEYS[key]
    tree = load_file(str(REPOSITORY / "configs" / file))
    of_data = ":{}" in form
    in_a_bucket = text.startswith("gs:") and (key.endswith(".workdir") or of_data)
    if in_a_bucket or (key.endswith("data_dir") and "://" in text):
        given = form.format(text)
        expected = given if "(" not in form else f"folder:{text}"
        assert _value(resolve(schema, tree, others | {key: given}), key) == expected
        return
    with pytest.raises(ConfigError) as caught:
        resolve(schema, tree, others | {key: form.format(text)})
    # What follows is WORKDIR's @STEP.
    assert any(p.startswith(f"config.{key} is {text!r}"[:-1]) for p in caught.value.problems)


def test_problems_with_paths_are_reported_with_all_others():
    schema, file, others = DISTILL
    overrides = {"teacher.workdir": "hdfs://b", "data.source": "folder:s3://", "seed": "many"}
    with pytest.raises(ConfigError) as caught:
        resolve(schema, load_file(str(REPOSITORY / "configs" / file)), others | overrides)
    named = {problem.split()[0] for problem in caught.value.problems}
    assert {"config.teacher.workdir", "config.data.source", "config.seed"} <= named


def test_fine_tuning_names_the_key_of_a_remote_start():
    with pytest.raises(UserError, match=r"config\.start.workdir is 'hdfs://b'"):
        complete({}, {"start.workdir": "hdfs://b"})


FLAGS = {
    "pretrain": ("config", "workdir", "branch_from"),
    "distill_student": ("config", "workdir", "branch_from"),
    "store_targets": ("config", "workdir", "branch_from"),
    "finetune": ("config", "workdir", "branch_from"),
    "evaluate": ("workdir", "weights", "source"),
    "export": ("workdir", "output"),
    "inspect": ("path",),
    "plan": ("config", "dump_hlo"),
    "shapefinder": ("config", "report", "workdir"),
    "scaling_study": ("config", "workdir"),
    "demo": ("workdir",),
}
# What a command asks for before it looks at paths.
NEEDED = {
    "config": f"{REPOSITORY}/configs/pretrain/digits.py",
    "workdir": "run",
    "widths": "64",
    "depths": "1",
}
ASKED = {"shapefinder": ("widths", "depths"), "plan": ("config",), "export": ("workdir",)}
# Those whose workdir may be in a bucket, or what they look at.
IN_BUCKETS = ("pretrain", "distill_student", "store_targets", "finetune", "evaluate", "export")
IN_BUCKETS += ("inspect",)
TRAINING = ("pretrain", "distill_student", "store_targets", "finetune", "scaling_study")


@pytest.mark.parametrize("command", FLAGS)
def test_a_flag_that_holds_a_path_refuses_a_remote_one_before_anything_is_written(command):
    asked = ("config", "workdir") if command in TRAINING else ASKED.get(command, ())
    for flag in FLAGS[command]:
        in_a_bucket = command in IN_BUCKETS and flag in ("workdir", "path")
        text = "hdfs://host/x" if in_a_bucket else "gs://bucket/x"
        given = {name: NEEDED[name] for name in asked} | {flag: text}
        if flag == "branch_from":
            del given["config"]
        done = run_command(command, *(f"--{name}={value}" for name, value in given.items()))
        assert done.returncode == 2
        assert f"--{flag} is {text!r}" in done.stderr, (flag, done.stderr)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    "command, flag", [("evaluate", "workdir"), ("export", "workdir"), ("inspect", "path")]
)
def test_reading_commands_look_in_the_home_directory(command, flag, home):
    done = run_command(command, f"--{flag}=~/none")
    assert done.returncode == 2
    assert f"{home}/none does not exist" in done.stderr


def test_a_config_file_is_found_in_the_home_directory(home):
    (home / "c.py").write_text("def get_config(name):\n    return dict(name=name)\n")
    assert load_file("~/c.py:a:b") == {"name": "a:b"}
    assert load_file(f"file://{home}/c.py:a") == {"name": "a"}


def test_no_remote_workdir_is_made_in_the_current_directory():
    for path in ("gs://bucket/run", Path("gs://bucket/run")):
        with pytest.raises(UserError, match="workdir is 'gs:/"):
            Workdir(path)
    assert not list(Path.cwd().iterdir())


def test_arguments_of_benchmarks_are_paths_like_flags(home):
    assert path_argument("~/x") == home / "x"
    done = run_python("benchmarks/branching.py", "--workdir=gs://b")
    assert done.returncode == 2 and "'gs://b'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["é", "日本", "a b", "e\u0301"])
def test_names_of_files_are_utf_8_in_any_locale(name):
    assert text_of(name) == name
    in_locale_c = name.encode().decode("ascii", "surrogateescape")
    assert text_of(in_locale_c) == name


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[0m", "a\x85b", "a\u2028b", "\udcff"])
def test_names_that_are_no_line_of_text_are_refused(name):
    with pytest.raises(UserError, match=r"the name .* rename it") as caught:
        text_of(name)
    assert str(caught.value).isprintable()


def test_what_is_prepared_is_not_written_where_its_library_cannot(tmp_path):
    odd = Preparation(source="digits", output=tmp_path / "b\udcff")
    with pytest.raises(UserError, match=r"b\\xff', which is not UTF-8; choose another --output"):
        prepare(odd, print)
    assert not odd.output.exists()
    check_utf8(tmp_path / "ä\xa0\n", "--output")


@pytest.mark.parametrize(
    ("named", "place"),
    [("", "home/.cache"), ("cache", "home/.cache"), ("./cache", "home/.cache"), ("~/c", "home/c")],
)
def test_a_relative_cache_of_the_user_counts_as_none(tmp_path, monkeypatch, named, place):
    monkeypatch.setenv("XDG_CACHE_HOME", named)
    assert user_cache() == tmp_path / place / "distill"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert user_cache() == tmp_path / "there/distill"
    monkeypatch.setenv("XDG_CACHE_HOME", "gs://bucket/cache")
    with pytest.raises(UserError, match="XDG_CACHE_HOME is 'gs://bucket/cache'"):
        user_cache()
