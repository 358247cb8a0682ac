"""What is built from this project works where the checkout is not."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support import REPOSITORY, TINY

import distill
from distill.command.entry import check_packages
from distill.errors import UserError

BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('{}'))"
# No Python path of whoever runs the tests.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def run(*command, cwd, **variables):
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=ENVIRONMENT | {k: str(v) for k, v in variables.items()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def built(kind: str, source: Path, output: Path) -> Path:
    done = run(sys.executable, "-c", BUILD.format(output), kind, cwd=source)
    assert done.returncode == 0, done.stderr[-2000:]
    return output / done.stdout.splitlines()[-1]


def _made_here(directory: str, names: list[str]) -> set[str]:
    """What a checkout holds that no archive of it would."""
    top = {".git", ".venv", "runs", "build", "dist"} if Path(directory) == REPOSITORY else set()
    return top | {name for name in names if name.endswith((".egg-info", "cache__", "_cache"))}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """The unpacked source distribution."""
    root = tmp_path_factory.mktemp("sdist")
    # Building writes to the source.
    source = root / "source"
    shutil.copytree(REPOSITORY, source, ignore=_made_here)
    archive = built("build_sdist", source, root)
    with tarfile.open(archive) as file:
        file.extractall(root / "unpacked", filter="data")
    return root / "unpacked" / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    return built("build_wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The command `distill` in an environment of its own, which borrows what the tests have."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, symlinks=True)
    [packages] = root.glob("lib/python*/site-packages")
    # Of a directory named like this no .pth files are read, so that a checkout which is installed
    # there stays out.
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    pip = (sys.executable, "-m", "pip", "--python", root / "bin" / "python")
    done = run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=root)
    assert done.returncode == 0, done.stderr
    return root / "bin" / "distill"


@pytest.mark.slow
def test_the_wheel_holds_packages_configs_types_and_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    info = f"distill_vit-{distill.__version__}.dist-info"
    assert tops == {"configs", "distill", "pipelines", "students", "teachers", info}
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for top in tops - {info}
        for path in (REPOSITORY / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected == {name for name in names if not name.startswith(info)}
    assert {"distill/py.typed", "configs/pretrain/digits.py"} <= expected


@pytest.mark.slow
def test_the_installed_command_trains_and_evaluates_outside_the_checkout(installed, tmp_path):
    listed = run(installed, "configs", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "pretrain/digits" in listed.stdout
    overrides = TINY | {"train.total_steps": "2", "schedule.warmup_steps": "1"}
    keys = [f"--config.{key}={value}" for key, value in overrides.items()]
    trained = run(
        installed, "pretrain", "--config=pretrain/digits", "--workdir=run", *keys, cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert (tmp_path / "run" / "report.html").exists()
    shown = run(installed, "inspect", "run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert str(REPOSITORY) not in trained.stdout + trained.stderr + shown.stdout


@pytest.mark.slow
def test_the_installed_command_says_what_hides_its_packages(installed, tmp_path):
    for name in ("pipelines", "configs"):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        # Without PYTHONPATH the current directory does not count.
        assert run(installed, "configs", cwd=folder.parent).returncode == 0
        (folder / "__init__.py").touch()
        hidden = run(installed, "configs", cwd=folder.parent, PYTHONPATH=folder.parent)
        assert hidden.returncode == 2
        assert hidden.stderr.startswith(f"error: {folder} hides this project's package {name}")
        assert "because PYTHONPATH names it" in hidden.stderr
    module = (installed.with_name("python"), "-m", "pipelines.list_configs")
    hidden = run(*module, cwd=tmp_path / "configs")
    assert hidden.returncode == 2, hidden.stderr
    assert "because it is the current directory" in hidden.stderr


@pytest.mark.slow
def test_the_tests_run_from_the_source_distribution(sdist):
    names = ("config/test_shipped", "optim/test_parameter_rules", "names/test_rules", "test_moved")
    files = [f"tests/{name}.py" for name in names]
    done = run(sys.executable, "-m", "pytest", "-q", *files, cwd=sdist, PYTHONPATH=sdist)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_version_is_in_one_place():
    assert "version" not in (REPOSITORY / "pyproject.toml").read_text().split("dynamic")[0]
    assert distill.__version__.count(".") == 2


def test_a_package_of_another_is_named_with_what_hides_it(tmp_path, monkeypatch):
    check_packages()
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "teachers"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=f"{tmp_path}/teachers hides this project's package"):
        check_packages()
