"""A notebook as a page."""

import json
from pathlib import Path
from typing import Any


def page(file: Path) -> str:
    """A notebook's texts, code and printed outputs as Markdown.

    Raises:
      ValueError: for an output that is no text.
    """
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        if printed := "".join(map(_text, cell["outputs"])).rstrip():
            parts.append(f"```text\n{printed}\n```")
    parts.append(f"This page is the notebook [{file.name}]({file.name}).")
    return "\n\n".join(parts) + "\n"


def _text(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return "".join(output["text"])
    data = output.get("data", {})
    if "text/plain" not in data:
        raise ValueError(f"an output of a notebook has no text: {sorted(data)}")
    return "".join(data["text/plain"]) + "\n"
