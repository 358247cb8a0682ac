"""The hook of MkDocs that adds what is made of the code, so that none of it can be out of date."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from website import notebooks, reference  # noqa: E402
from website.markdown import as_on_github  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    made = reference.pages(_commands())
    for name, path in reference.PROJECT.items():
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        # Links are to docs/, as these files lie beside it.
        made[path] = re.sub(r"\]\(docs/", "](../", text)
    for file in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        made[f"notebooks/{file.stem}.md"] = notebooks.page(file)
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Has a page read as on GitHub, and links to notebooks lead to the pages made of them."""
    linked = re.sub(r"\]\(((?:\.\./)*notebooks/\w+)\.ipynb\)", r"](\1.md)", markdown)
    return as_on_github(linked)


def _commands() -> list[dict]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "commands.json")
        subprocess.run(
            [sys.executable, "-m", "website.described", str(file)], cwd=REPOSITORY, check=True
        )
        return json.loads(file.read_text(encoding="utf-8"))
