"""Configs that come with the project are found by name, from any directory."""

import json
import shutil

import pytest
from support import REPOSITORY, run_command, run_python

from distill.config import load_file
from distill.errors import UserError
from distill.shipped import find_config, shipped_configs

FOLDER = REPOSITORY / "configs" / "pretrain" / "folder.py"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "pretrain/folder",
        "pretrain/folder.py",
        "configs/pretrain/folder.py",
        "configs/pretrain/folder",
    ],
)
def test_a_shipped_config_is_found_by_name(path):
    assert find_config(path) == FOLDER


def test_an_argument_follows_a_name():
    assert load_file("distill/digits:embedding")["matching"]["losses"] == {
        "kl": 1.0,
        "embedding_cosine": 1.0,
    }


@pytest.mark.parametrize("path", ["configs/pretrain/folder.py", "pretrain/folder.py"])
def test_a_path_that_exists_wins(path, tmp_path):
    own = tmp_path / path
    own.parent.mkdir(parents=True)
    shutil.copy(FOLDER, own)
    assert find_config(path) == own


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("folder", "pretrain/folder"),
        ("pretrain/foldr", "pretrain/folder"),
        ("configs/distill/publishd.py", "distill/published"),
    ],
)
def test_an_unknown_name_gets_the_nearest(path, near):
    with pytest.raises(UserError, match=f"did you mean --config={near}[?]"):
        find_config(path)


@pytest.mark.parametrize("path", ["xyzzy", "/configs/pretrain/folder.py", "pretrain"])
def test_what_is_no_name_is_refused(path):
    with pytest.raises(UserError, match="no config of that name comes with the project"):
        find_config(path)


def test_the_command_lists_each_with_what_it_is():
    done = run_command("configs")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_configs())
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)
    assert "scaling/digits" in shipped_configs()


def test_every_config_is_in_the_installed_package():
    """As `pip install .` finds packages, which an editable install does not need."""
    script = (
        "import tomllib, setuptools, json;"
        "find = tomllib.load(open('pyproject.toml', 'rb'))['tool']['setuptools']['packages'];"
        "print(json.dumps(setuptools.find_namespace_packages(**find['find'])))"
    )
    found = run_python("-c", script)
    assert found.returncode == 0, found.stderr
    needed = {"configs", *(f"configs.{name.split('/')[0]}" for name in shipped_configs())}
    assert needed <= set(json.loads(found.stdout))
