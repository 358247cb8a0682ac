"""Pages about commands, the keys of their configs, and the configs that are shipped."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from distill.config.help import DERIVED, REQUIRED
from distill.shipped import shipped_configs
from website.markdown import code, escaped, from_docstring, table

COMMANDS_PAGE = "reference/commands.md"
CONFIGS_PAGE = "reference/configs.md"
KEYS_FOLDER = "reference/keys"
PROJECT = {"CHANGELOG.md": "project/changelog.md", "CONTRIBUTING.md": "project/contributing.md"}
"""Files of the repository's root, and the pages that they become."""

# Of one schema a page: of each the command that it is called by.
SCHEMAS = {
    "PretrainConfig": "pretrain",
    "PairTrainingConfig": "train_pair",
    "DistillConfig": "distill_student",
    "StoreTargetsConfig": "store_targets",
    "HeadTrainingConfig": "train_head",
    "FinetuneConfig": "finetune",
    "EvaluateConfig": "evaluate",
    "StudyConfig": "scaling_study",
}


def pages(commands: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Every page by its path in docs/, of what `described` says of all commands.

    Raises:
      KeyError: for the config of a command that has no page.
    """
    made = {COMMANDS_PAGE: commands_page(commands), CONFIGS_PAGE: configs_page()}
    for one in commands:
        if one["schema"] and SCHEMAS[one["schema"]] == one["command"]:
            users = [other["command"] for other in commands if other["schema"] == one["schema"]]
            made[f"{KEYS_FOLDER}/{one['command']}.md"] = keys_page(one, users)
    return made


def commands_page(commands: Sequence[Mapping[str, Any]]) -> str:
    """All commands with their flags."""
    lines = [
        "# Commands",
        "",
        "What `distill COMMAND --help` says, of the version that this site was built of. "
        "`python -m pipelines.COMMAND` and, in a checkout, `python pipelines/COMMAND.py` are the "
        "same. Keys of configs have [pages of their own](keys/pretrain.md).",
    ]
    for one in commands:
        lines += ["", f"## {one['command']}", "", *from_docstring(one["doc"])]
        if one["schema"]:
            page = f"keys/{SCHEMAS[one['schema']]}.md"
            lines += ["", f"Keys of its config: [`--config.KEY=VALUE`]({page})."]
        if one["flags"]:
            rows = [
                (code(name), escaped(text), "" if default is None else code(str(default)))
                for name, text, default in one["flags"]
            ]
            lines += ["", *table(("flag", "", "default"), rows)]
    return "\n".join([*lines, ""])


def keys_page(command: Mapping[str, Any], users: Sequence[str]) -> str:
    """All keys of a command's config."""
    of = " and ".join(f"`distill {name}`" for name in users)
    lines = [
        f"# Keys of {command['command']}",
        "",
        f"All keys of the config of {of}, with type and default, as `--help` says them. On a "
        f"command line a key is `--config.KEY=VALUE`, in a [config file](configs.md) a place in "
        f"nested dictionaries. NAME is a name that you choose.".replace(
            "(configs.md)", "(../configs.md)"
        ),
    ]
    for path, doc, keys in command["sections"]:
        if not keys:
            continue
        lines += ["", f"## {code(path)}"]
        if doc:
            lines += ["", escaped(doc)]
        rows = [
            (
                code(key["path"].rpartition(".")[2]),
                escaped(key["kind"]),
                key["default"] if key["default"] in (DERIVED, REQUIRED) else code(key["default"]),
                escaped(key["doc"]),
            )
            for key in keys
        ]
        lines += ["", *table(("key", "type", "default", ""), rows)]
    return "\n".join([*lines, ""])


def configs_page() -> str:
    """The configs that come with the project, whole."""
    lines = [
        "# Shipped configs",
        "",
        "`distill configs` lists them, and every command finds them by name from any directory: "
        "`--config=distill/digits`, with `:ARGUMENT` where they take one. The README says "
        "which of them have been run.",
    ]
    for name, file in shipped_configs().items():
        text = file.read_text(encoding="utf-8")
        doc = ast.get_docstring(ast.parse(text)) or ""
        lines += ["", f"## {name}", "", *from_docstring(doc)]
        lines += ["", '<details markdown="1">', f"<summary>configs/{name}.py</summary>", ""]
        lines += ["```python", text.rstrip(), "```", "", "</details>"]
    return "\n".join([*lines, ""])
