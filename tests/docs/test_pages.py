"""Pages and their places: every one is in the navigation, and every link arrives."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from documents import DOCS, anchors, links, pages
from support import REPOSITORY

from distill.config.help import sections
from distill.runs.distillation import DistillConfig
from pipelines.cli import COMMANDS
from pipelines.pretrain import PretrainConfig
from website import notebooks, reference
from website.markdown import as_on_github
from website.reference import PROJECT

READ_ON_GITHUB = [REPOSITORY / name for name in ("README.md", *PROJECT)] + pages()


class _Loader(yaml.SafeLoader):
    """Of mkdocs.yml, whose tags name functions of Python."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def _nav(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Mapping):
        yield from _nav(list(entry.values()))
    elif isinstance(entry, list):
        for one in entry:
            yield from _nav(one)


@pytest.fixture(scope="module")
def nav() -> list[str]:
    config = yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    return list(_nav(config["nav"]))


def _made() -> set[str]:
    """The pages that the site's hook makes."""
    keys = {f"{reference.KEYS_FOLDER}/{command}.md" for command in reference.SCHEMAS.values()}
    of_notebooks = {f"notebooks/{file.stem}.md" for file in DOCS.glob("notebooks/*.ipynb")}
    return (
        keys | of_notebooks | {reference.COMMANDS_PAGE, reference.CONFIGS_PAGE, *PROJECT.values()}
    )


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page(nav):
    written = {page.relative_to(DOCS).as_posix() for page in pages()}
    assert sorted(nav) == sorted(written | _made())


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere, with their lines.

    Of pages of the site alone, which say `:::`, those to pages that are made are left to MkDocs.
    """
    text, found = page.read_text(encoding="utf-8"), []
    on_site = "\n::: " in text
    for line, target in links(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        if on_site and file.is_relative_to(DOCS) and file.relative_to(DOCS).as_posix() in _made():
            continue
        if not file.exists():
            found.append(f"{page.name}:{line}: there is no {target}")
        elif anchor and not on_site and anchor not in anchors(file.read_text("utf-8")):
            found.append(f"{page.name}:{line}: {path or page.name} has no #{anchor}")
    return found


@pytest.mark.parametrize("page", READ_ON_GITHUB, ids=lambda page: page.name)
def test_every_relative_link_arrives(page):
    assert broken(page) == []


def test_a_link_to_no_file_and_one_to_no_heading_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# One thing\n\n```sh\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#one-thing) [c](#here) [`d`](https://example.org/x.md)\n\n"
        "`[no](link.md)`\n\n```\n[no](link.md)\n```\n\n"
        "[e](another.md) ![f](no.png)\n\n[g](other.md#no-heading) [h](#there)\n\n## Here\n"
    )
    assert broken(page) == [
        "page.md:9: there is no another.md",
        "page.md:9: there is no no.png",
        "page.md:11: other.md has no #no-heading",
        "page.md:11: page.md has no #there",
    ]


def test_pages_outside_docs_are_not_linked_from_it():
    """On the site they would lead nowhere."""
    outside = [
        f"{page.name}:{line}: {target}"
        for page in pages()
        for line, target in links(page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:|#", target)
        and not (page.parent / target.partition("#")[0]).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_every_command_is_described_and_every_config_has_a_page():
    command = {
        "command": "pretrain",
        "doc": "Trains <it>.\n\n  distill pretrain --config=A|B\n\nOf a_b and `c|d`.",
        "flags": [("--workdir", "Where; a|b.", None), ("--best", "The best.", "False")],
        "schema": "PretrainConfig",
        "sections": [
            ("config", "All.", [dict(path="config.seed", kind="a <b>", default="0", doc="x | y")])
        ],
    }
    made = reference.pages([command])
    assert {*made} == {
        reference.COMMANDS_PAGE,
        reference.CONFIGS_PAGE,
        "reference/keys/pretrain.md",
    }
    assert made[reference.COMMANDS_PAGE].splitlines()[4:] == [
        "## pretrain",
        "",
        "Trains &lt;it&gt;.",
        "",
        "```text",
        "distill pretrain --config=A|B",
        "```",
        "",
        r"Of a\_b and `c\|d`.",
        "",
        "Keys of its config: [`--config.KEY=VALUE`](keys/pretrain.md).",
        "",
        "| flag |  | default |",
        "| --- | --- | --- |",
        r"| `--workdir` | Where; a\|b. |  |",
        "| `--best` | The best. | `False` |",
    ]
    assert r"| `seed` | a &lt;b&gt; | `0` | x \| y |" in made["reference/keys/pretrain.md"]
    assert "## distill/digits" in made[reference.CONFIGS_PAGE]
    assert {*reference.SCHEMAS.values()} <= {*COMMANDS}


def test_a_list_after_a_paragraph_is_one_on_the_site_too():
    text = "**Of this**\n- one\n- two\n  goes on\n- three\n\n```\na\n- b\n```\n1. x\n* y\n"
    assert as_on_github(text) == (
        "**Of this**\n\n- one\n- two\n  goes on\n- three\n\n```\na\n- b\n```\n\n1. x\n* y\n"
    )


def test_pipes_of_code_in_a_table_lose_their_backslash_on_the_site():
    text = "| `a\\|b` | c\\|d |\n\n`e\\|f`\n\n```\n| `g\\|h` |\n```\n"
    assert as_on_github(text) == "| `a|b` | c\\|d |\n\n`e\\|f`\n\n```\n| `g\\|h` |\n```\n"


def test_a_notebook_becomes_a_page_with_what_its_cells_printed(tmp_path):
    file = tmp_path / "a.ipynb"
    file.write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# A\\n", "b"]},'
        ' {"cell_type": "code", "source": ["1 + 1"], "outputs": ['
        '{"output_type": "stream", "text": ["two:\\n"]},'
        '{"output_type": "execute_result", "data": {"text/plain": ["2"]}}]}]}'
    )
    assert notebooks.page(file) == (
        "# A\nb\n\n```python\n1 + 1\n```\n\n```text\ntwo:\n2\n```\n\n"
        "This page is the notebook [a.ipynb](a.ipynb).\n"
    )


SCHEMAS = (DistillConfig, PretrainConfig)


def _keys() -> set[str]:
    """All keys and sections of configs that train, `NAME` for any name."""
    found: set[str] = set()
    for schema in SCHEMAS:
        for section, _, keys in sections(schema):
            found |= {section, *(key.path for key in keys)}
    return {above for path in found for above in (path, path.rpartition(".")[0])}


def _named(page: Path) -> Iterator[str]:
    """The keys that the second cells of a page's tables name."""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) > 3:
            yield from re.findall(r"`(config\.[\w.]*\w)", cells[2])


def test_the_keys_that_others_words_become_are_keys():
    named = set(_named(DOCS / "coming_from.md"))
    assert len(named) > 50
    assert sorted(named - _keys()) == []
