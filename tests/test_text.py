"""Text is UTF-8 in every locale: what is written, what is read, and names of files."""

import ast
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import REPOSITORY, arguments, run_python

# Python's own file system encoding is then ASCII.
LOCALE_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CLASSES = ("café", "light", "日本")
# As a terminal gives them, arguments are bytes.
SCRIPT = """
import os, sys
from pipelines import cli
for arguments in {commands}:
    sys.argv = ["distill", *(os.fsdecode(one.encode()) for one in arguments)]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            sys.exit(ended.code)
"""


def _opens_text_without_encoding(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given:
        return False
    if name in ("read_text", "write_text"):
        return True
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & given.keys())
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    is_method = isinstance(call.func, ast.Attribute) and name == "open"
    place = 0 if is_method or name.endswith("File") else 1
    mode = given.get("mode", call.args[place] if len(call.args) > place else None)
    if mode is None:
        # Of the methods called open, only those of paths take nothing; temporary files are bytes.
        return not name.endswith("File") and not (is_method and (call.args or given))
    is_mode = isinstance(mode, ast.Constant) and re.fullmatch("[rwaxt+]+", str(mode.value))
    return bool(is_mode)


@pytest.mark.parametrize(
    "code, found",
    [
        ("open(x)", True),
        ("open(x, 'w')", True),
        ("open(x, mode='a')", True),
        ("open(x, 'rb')", False),
        ("open(x, encoding='utf-8')", False),
        ("x.open()", True),
        ("x.open('w')", True),
        ("x.open('wb')", False),
        ("Image.open(x)", False),
        ("x.read_text()", True),
        ("x.write_text(y, encoding='utf-8')", False),
        ("subprocess.run(x, text=True)", True),
        ("tempfile.TemporaryFile(dir=x)", False),
        ("tempfile.NamedTemporaryFile('w')", True),
    ],
)
def test_text_without_an_encoding_is_recognised(code, found):
    assert _opens_text_without_encoding(ast.parse(code).body[0].value) == found


def test_text_is_opened_with_its_encoding_everywhere():
    found = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno}"
        for package in ("distill", "pipelines", "teachers", "students", "configs", "benchmarks")
        for file in sorted((REPOSITORY / package).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _opens_text_without_encoding(node)
    ]
    assert found == []


@pytest.fixture
def images(tmp_path) -> Path:
    """Nine grey images in three classes, under a name that is not ASCII."""
    root = tmp_path / "bïlder"
    for split in ("train", "validation", "test"):
        for level, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((8, 8), 80 * level + number, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.mark.slow
def test_commands_run_on_a_terminal_of_locale_c(images, tmp_path):
    run, output = tmp_path / "run", tmp_path / "export"
    overrides = dict(
        data__source=f"folder:{images}",
        model__num_classes=3,
        train__total_steps=2,
        train__batch_size=8,
        train__eval_every=2,
        train__checkpoint_every=2,
    )
    commands = [
        ["pretrain", *arguments("pretrain/digits.py", run, **overrides)],
        ["evaluate", f"--workdir={run}", "--classes=café,light,日本"],
        ["inspect", str(run)],
        ["export", f"--workdir={run}", f"--output={output}"],
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | LOCALE_C
    script = SCRIPT.format(commands=ascii(commands))
    done = run_python("-c", script, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "9 images of folder:" in done.stdout and "a run" in done.stdout
    names = (output / "1" / "assets" / "class_names.txt").read_bytes().decode("utf-8")
    assert names.split() == list(CLASSES)
    assert f"folder:{images}" in (output / "1" / "MODEL_CARD.md").read_bytes().decode("utf-8")
