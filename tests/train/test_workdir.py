import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import REPOSITORY

from distill.config import execution_keys
from distill.errors import Damaged, UserError
from distill.json_files import read_json, write_json
from distill.train import metrics
from distill.train.workdir import Workdir, read_config
from pipelines.distill_student import DistillConfig

CONFIG = {
    "seed": 0,
    "train": {"batch_size": 128, "total_steps": 600},
    "optimizer": {"weight_decay": [["kernel$", 0.1]], "clip_norm": None},
}


def changed(**keys):
    config = json.loads(json.dumps(CONFIG))
    for key, value in keys.items():
        *parents, leaf = key.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    return config


def test_workdir_is_made_with_its_parents(tmp_path):
    workdir = Workdir(tmp_path / "a" / "b")
    assert workdir.path.is_dir() and not list(workdir.path.iterdir())


def test_workdir_in_the_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/run").path == tmp_path / "run"


def test_claim_writes_the_config(tmp_path):
    Workdir(tmp_path).claim(CONFIG)
    assert read_json(tmp_path / "config.json") == CONFIG
    assert read_config(tmp_path) == CONFIG


def test_a_workdir_that_another_process_claimed_is_refused(tmp_path):
    script = (
        "import json, sys, time; from distill.train.workdir import Workdir;"
        "workdir = Workdir(sys.argv[1]); workdir.claim(json.loads(sys.argv[2]));"
        "print('claimed', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), json.dumps(CONFIG)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "claimed\n"
        try:
            with pytest.raises(UserError, match="another process is at work in workdir"):
                Workdir(tmp_path).claim(CONFIG)
        finally:
            other.kill()
    Workdir(tmp_path).claim(CONFIG)


def test_same_config_may_claim_again(tmp_path):
    Workdir(tmp_path).claim(CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    Workdir(tmp_path).claim(json.loads(json.dumps(CONFIG)))
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "difference, line",
    [
        ({"seed": 1}, "config.seed: 0 there, 1 now"),
        ({"train__batch_size": 64}, "config.train.batch_size: 128 there, 64 now"),
        ({"train__new": 1}, "config.train.new: None there, 1 now"),
        ({"optimizer__clip_norm": 1.0}, "config.optimizer.clip_norm: None there, 1.0 now"),
        ({"optimizer__weight_decay": []}, "config.optimizer.weight_decay: [['kernel$', 0.1]]"),
        ({"train": None}, "config.train: "),
    ],
)
def test_other_config_is_refused_and_the_difference_named(tmp_path, difference, line):
    Workdir(tmp_path).claim(CONFIG)
    with pytest.raises(UserError) as caught:
        Workdir(tmp_path).claim(changed(**difference))
    message = str(caught.value)
    assert line in message and str(tmp_path) in message
    assert len(re.findall(r"^  config\.", message, re.MULTILINE)) == 1
    assert read_config(tmp_path) == CONFIG


def test_all_differences_are_named(tmp_path):
    Workdir(tmp_path).claim(CONFIG)
    with pytest.raises(UserError) as caught:
        Workdir(tmp_path).claim(changed(seed=1, train__total_steps=5))
    assert "config.seed" in str(caught.value) and "config.train.total_steps" in str(caught.value)
    assert "batch_size" not in str(caught.value)


def test_key_that_has_gone_is_a_difference(tmp_path):
    Workdir(tmp_path).claim(CONFIG)
    without = {key: value for key, value in CONFIG.items() if key != "seed"}
    with pytest.raises(UserError, match=r"config\.seed: 0 there"):
        Workdir(tmp_path).claim(without)


def test_claim_says_where_the_workdir_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Workdir("run").claim(CONFIG)
    assert read_json(tmp_path / "run" / "claim.json") == {"workdir": str(tmp_path / "run")}


def test_a_refused_claim_writes_no_new_place(tmp_path):
    Workdir(tmp_path / "a").claim(CONFIG)
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(UserError, match="another config"):
        Workdir(tmp_path / "b").claim(changed(seed=1))
    assert read_json(tmp_path / "b" / "claim.json") == {"workdir": str(tmp_path / "a")}


def test_a_moved_workdir_is_claimed_with_the_new_paths(tmp_path):
    def config(place):
        return CONFIG | {"teacher": {"workdir": f"{tmp_path}/{place}/teacher"}}

    Workdir(tmp_path / "a" / "run").claim(config("a"))
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(UserError, match=r"config\.teacher\.workdir"):
        Workdir(tmp_path / "b" / "run").claim(config("c"))
    Workdir(tmp_path / "b" / "run").claim(config("b"))
    assert read_config(tmp_path / "b" / "run") == config("b")


@pytest.mark.parametrize("allowed", ["train.batch_size", "train"])
def test_what_may_change_is_recorded(tmp_path, allowed):
    Workdir(tmp_path).claim(CONFIG)
    now = changed(train__batch_size=64)
    Workdir(tmp_path).claim(now, may_change=["optimizer.clip_norm", allowed])
    assert read_config(tmp_path) == now


@pytest.mark.parametrize("allowed", ["seed", "train.batch", "tra", "train.batch_size.x"])
def test_what_may_not_change_is_refused_and_nothing_recorded(tmp_path, allowed):
    Workdir(tmp_path).claim(CONFIG)
    with pytest.raises(UserError) as caught:
        Workdir(tmp_path).claim(changed(seed=1, train__batch_size=64), may_change=[allowed])
    message = str(caught.value)
    assert "config.train.batch_size: 128 there, 64 now" in message
    assert ("config.seed" in message) == (allowed != "seed")
    assert read_config(tmp_path) == CONFIG


@pytest.mark.parametrize("inside", ["", "/deeper"])
def test_workdir_that_is_a_file_is_refused(tmp_path, inside):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path}/file.*choose another --workdir"):
        Workdir(f"{tmp_path}/file{inside}")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a directory nobody may write to")
@pytest.mark.parametrize("path", ["/proc", "/proc/runs", "/proc/self/runs"])
def test_workdir_that_cannot_be_written_is_refused(path):
    with pytest.raises(UserError, match=f"cannot write to workdir {path}"):
        Workdir(path)


@pytest.mark.parametrize(
    "content", [b"", b'{"seed": 0, "tra', b"\0" * 64, b"\xff\xfe\x80\x81", b"seed: 0\n"]
)
def test_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json.* damaged"):
        Workdir(tmp_path).claim(CONFIG)
    with pytest.raises(UserError, match=r"config\.json.* damaged"):
        read_config(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == content


def test_config_of_a_missing_run_says_which(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/none does not exist"):
        read_config(tmp_path / "none")
    with pytest.raises(UserError, match="not the workdir of a run"):
        read_config(tmp_path)


def test_a_run_that_says_nothing_of_its_decoder_had_pillow(tmp_path):
    before, now = ({"source": "digits"} | more for more in ({}, {"decoder": "fast"}))
    write_json(tmp_path / "config.json", CONFIG | {"data": before})
    assert read_config(tmp_path)["data"]["decoder"] == "pillow"
    with pytest.raises(UserError, match=r"config\.data\.decoder: 'pillow' there, 'fast' now"):
        Workdir(tmp_path).claim(CONFIG | {"data": now})
    Workdir(tmp_path).claim(CONFIG | {"data": before | {"decoder": "pillow"}})


def test_summary_is_written_and_replaced(tmp_path):
    workdir = Workdir(tmp_path)
    for summary in ({"steps": 1, "val/accuracy": 0.5}, {"steps": 2}):
        workdir.write_summary(summary)
        assert read_json(tmp_path / "summary.json") == summary


def test_failed_write_leaves_the_old_content(tmp_path):
    file = tmp_path / "content.json"
    write_json(file, {"old": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": list(range(10_000)), "not JSON": object()})
    assert read_json(file) == {"old": 1}


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_crash_while_writing_leaves_the_old_content(tmp_path, monkeypatch, where):
    file = tmp_path / "content.json"
    write_json(file, {"old": 1})

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, crash)
    with pytest.raises(KeyboardInterrupt):
        write_json(file, {"new": 2})
    assert read_json(file) == {"old": 1}


def test_leftover_of_a_crash_does_not_disturb_the_next_write(tmp_path):
    file = tmp_path / "content.json"
    (tmp_path / ".content.json.tmp").write_text('{"half": ' + "9" * 1000)
    write_json(file, {"new": 2})
    assert json.loads(file.read_text()) == {"new": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["content.json"]


def test_reader_finds_the_old_content_or_the_new(tmp_path):
    file = tmp_path / "content.json"
    contents = [[number] * 5000 for number in range(2)]
    write_json(file, contents[0])
    done = threading.Event()

    def write():
        for turn in range(60):
            write_json(file, contents[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_json(file) in contents
    writer.join()


def test_the_docs_name_every_key_that_may_change_on_resume():
    text = (REPOSITORY / "docs" / "scale.md").read_text()
    for key in execution_keys(DistillConfig):
        assert f"`{key}`" in text or f"`{key.split('.')[-1]}`" in text, key


def test_runs_in_a_directory_are_named_where_it_is_none(tmp_path):
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no config.json; name one in it: large, small$"):
        read_config(tmp_path)


def test_a_directory_in_a_files_place_is_damage(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(Damaged, match=r"\.lock is damaged: it is a directory"):
        Workdir(tmp_path).claim(CONFIG)
    (tmp_path / ".lock").rmdir()
    for name in ("claim.json", "config.json"):
        (tmp_path / name).mkdir()
        with pytest.raises(Damaged, match=f"{name} is damaged: it is a directory"):
            Workdir(tmp_path).claim(CONFIG)
        (tmp_path / name).rmdir()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(Damaged, match=r"metrics\.jsonl is damaged: it is a directory"):
        metrics.read(tmp_path)


def test_a_workdir_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\\xff', which is not UTF-8; choose another --workdir"):
        Workdir(tmp_path / "a\udcff")
    assert not list(tmp_path.iterdir())
    Workdir(tmp_path / "ä\xa0")
