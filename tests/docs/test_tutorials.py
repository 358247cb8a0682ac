"""What the tutorials say to type runs, in order, in an empty directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS, blocks

COMMANDS = {"sh": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-c")}


def run_page(page: Path, directory: Path) -> str:
    """Runs the blocks of shell and Python of a page, and returns all that they printed.

    Raises:
      AssertionError: with the block that failed, and what it said.
    """
    # The commands of the environment that the tests run in, which need not be active.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language not in COMMANDS:
            continue
        done = subprocess.run(
            [*COMMANDS[block.language], block.text],
            cwd=directory,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        where = f"{page.name}:{block.line}"
        assert done.returncode == 0, f"{where}\n{block.text}\n{done.stdout[-3000:]}"
        printed.append(done.stdout)
    return "".join(printed)


TUTORIALS = sorted(DOCS.glob("tutorials/*.md"))
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_stands(page, tmp_path):
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_from_top_to_bottom(file, tmp_path):
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    page = tmp_path / "notebook.md"
    page.write_text("```python\n" + "\n\n".join(code) + "\n```\n", encoding="utf-8")
    # As many lines as it is stored with: what they say differs from machine to machine.
    stored = [
        line
        for cell in cells
        for output in cell.get("outputs", ())
        for line in "".join(output["text"]).splitlines()
    ]
    assert len(run_page(page, tmp_path).splitlines()) == len(stored)


def test_there_are_tutorials_and_each_has_something_to_run_and_what_it_printed():
    assert len(TUTORIALS) >= 4 and NOTEBOOKS
    for page in TUTORIALS:
        languages = [block.language for block in blocks(page.read_text(encoding="utf-8"))]
        assert "sh" in languages
        assert "text" in languages


def test_blocks_run_in_order_and_one_that_fails_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\necho 1 > a\n```\n\n```text\nfalse\n```\n\n```python\nprint(open('a').read())\n```\n"
    )
    assert run_page(page, tmp_path) == "1\n\n"
    page.write_text("text\n\n```sh\nfalse\ntrue\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:4"):
        run_page(page, tmp_path)
