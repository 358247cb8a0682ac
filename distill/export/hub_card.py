"""README.md of a repository on Hugging Face's hub: an export's card, and what the hub reads."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.export.beside_teacher import comparison
from distill.export.versions import CARD, DESCRIPTION, Version
from distill.json_files import read_json

AT_THE_TOP = ("hf", "timm")
"""Formats whose libraries read from a repository's top; the first that there is lies there."""

# Data sets of TFDS under their names on the hub.
_ON_THE_HUB = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "food101": "ethz/food101",
    "imagenet2012": "ILSVRC/imagenet-1k",
    "mnist": "ylecun/mnist",
}
# Whole, or a source's, with what cards say after it.
_PATH = re.compile(r"^(?:\w+:)?(/.+?)(?:@\d+)?(?=$|, split )", re.DOTALL)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def places(versions: Mapping[str, Version]) -> dict[str, str]:
    """The folder of each format in the repository; empty of the one at its top."""
    top = next((form for form in AT_THE_TOP if form in versions), None)
    return {form: "" if form == top else form for form in versions}


def repository_card(name: str, versions: Mapping[str, Version]) -> str:
    """The text of README.md.

    Args:
      name: USER/REPO.
      versions: what is exported, by format.

    Raises:
      Damaged: if what the run recorded is.
    """
    folders = places(versions)
    first = min(folders, key=lambda form: (folders[form] != "", [*folders].index(form)))
    version = versions[first].path
    about = read_json(version / DESCRIPTION)["about"]
    card = (version / CARD).read_text(encoding="utf-8", errors="surrogateescape")
    _, front, body = card.split("---\n", 2)
    front += "".join(f"{line}\n" for line in _known(name, front, about))
    workdir = about.get("workdir")
    if workdir and Path(workdir).is_dir() and (table := comparison(Path(workdir))):
        body = body.replace("\n## Data\n", f"\n## Beside its teacher\n\n{table}\n\n## Data\n", 1)
    if inside := [form for form, folder in folders.items() if folder]:
        body = body.replace("README.md beside this file has", f"{first}/README.md has")
        listing = "\n".join(f"- `{form}/`: {CARD} in it says how to use it" for form in inside)
        body += f"\n## Files\n\n{listing}\n"
    return without_paths(f"---\n{front}---\n{body}", about)


def without_paths(text: str, about: Mapping[str, Any]) -> str:
    """A text with the paths of this machine that its export tells of cut to their last part."""
    found = {path for one in _strings(about) for path in _PATH.findall(one)}
    for path in sorted(found, key=len, reverse=True):
        text = text.replace(path, Path(path).name)
    return text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(one)


def _known(name: str, front: str, about: Mapping[str, Any]) -> Iterator[str]:
    """Lines of YAML, of what JSON is a part."""
    trained, _ = _source(about, "trained on")
    if data := _ON_THE_HUB.get(trained.removeprefix("tfds:").partition("/")[0].partition(":")[0]):
        yield f"datasets: {_yaml([data])}"
    if bases := [*_bases(about)]:
        yield f"base_model: {_yaml(bases)}"
    if metrics := [*_metrics(about)]:
        task = re.search(r"^pipeline_tag: (.*)$", front, re.MULTILINE)
        source, split = _source(about, "evaluated on")
        dataset = {"type": data or source.partition(":")[0] or "unknown", "name": source}
        result = {
            "task": {"type": task.group(1) if task else "image-classification"},
            "dataset": dataset | ({"split": split} if split else {}),
            "metrics": metrics,
        }
        yield f"metrics: {_yaml([one['type'] for one in metrics])}"
        yield f"model-index: {_yaml([{'name': name.partition('/')[2], 'results': [result]}])}"


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _source(about: Mapping[str, Any], key: str) -> tuple[str, str]:
    """A source's name and its last split, of what a card says of the data."""
    text = (about.get("data") or {}).get(key) or ""
    splits = re.findall(r", split ([^,()]+?)(?: \(\w+/\))?(?=,|$)", text)
    return text.partition(", split ")[0], splits[-1].strip() if splits else ""


def _metrics(about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The accuracy on the test split, or where there is none on the validation split."""
    found = about.get("metrics") or {}
    for key in ("test/accuracy", "val/accuracy"):
        if key in found:
            yield {"type": "accuracy", "name": key, "value": float(found[key])}
            return


def _bases(about: Mapping[str, Any]) -> Iterator[str]:
    """What published models are called on the hub, of those that it comes from."""
    sources = [about.get("published")]
    sources += [one.get("source") for one in (about.get("teachers") or {}).values()]
    for source in filter(None, sources):
        file = Path(source) / "config.json"
        said = read_json(file).get("_name_or_path") if file.is_file() else None
        if isinstance(said, str) and _REPOSITORY.fullmatch(said):
            yield said
