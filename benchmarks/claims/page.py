"""`docs/papers.md`, made of what was concluded of each claim."""

import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.claim import Claim, Conclusion
from benchmarks.claims.runs import Finished, Run
from distill.json_files import read_json, write_json

PAGES = Path(__file__).resolve().parent.parent.parent / "docs"
"""Where the page lies, and beside it in `papers/` what it is made of."""

_FOLDER = "papers"


def keep(
    pages: Path,
    claim: Claim,
    conclusion: Conclusion,
    runs: Mapping[Any, Run],
    found: Mapping[Any, Finished],
    *,
    broken: bool = False,
) -> None:
    """Writes what was concluded as JSON, and draws its figure.

    Args:
      pages: the directory of `papers.md`.
      claim: of which.
      conclusion: what was.
      runs: of what, by key.
      found: what these came to.
      broken: whether the mechanism was broken on purpose.
    """
    folder = pages / _FOLDER
    folder.mkdir(exist_ok=True)
    stem = f"{claim.name}_broken" if broken else claim.name
    write_json(
        folder / f"{stem}.json",
        {
            **json.loads(json.dumps(dataclasses.asdict(conclusion))),
            "runs": len({run.name for run in runs.values()}),
            "cpu_minutes": round(_cpu_seconds(runs, found) / 60, 1),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": _machine(),
        },
    )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    claim.draw(conclusion, figure)
    figure.savefig(folder / f"{stem}.png", dpi=110)


def _cpu_seconds(runs: Mapping[Any, Run], found: Mapping[Any, Finished]) -> float:
    return sum({run.name: found[key].cpu_seconds for key, run in runs.items()}.values())


def _machine() -> str:
    import jax

    return f"{platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}"


def write_page(pages: Path, known: Mapping[str, Claim]) -> Path:
    """Writes `papers.md` of what is kept, and returns its path."""
    file = pages / "papers.md"
    file.write_text(render(pages, known), encoding="utf-8")
    return file


def render(pages: Path, known: Mapping[str, Claim]) -> str:
    """The page, in Markdown."""
    kept = {
        name: read_json(file)
        for name in known
        if (file := pages / _FOLDER / f"{name}.json").exists()
    }
    parts = [_INTRODUCTION, _table(known, kept)]
    parts += [_section(known[name], kept[name]) for name in kept]
    checks = {
        name: read_json(file)
        for name in kept
        if (file := pages / _FOLDER / f"{name}_broken.json").exists()
    }
    if checks:
        parts.append(_checks(known, kept, checks))
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
# The papers' claims, on a laptop

The papers behind this project make claims that a reader can check only with JFT and a thousand
chips. Most have a shadow at small scale: here each is redone on scikit-learn's digits, or on
scenes of them ([data.md](data.md#scenes-of-digits-side-by-side)), with several seeds, and judged
by a rule that was written down before; where a rule or a setting was changed after a first look,
its section says so. A verdict is of this scale: what does not show here may well hold there.

```sh
python -m benchmarks.claims            # all of it; what is done is kept
python -m benchmarks.claims qk_norm    # one
python -m benchmarks.claims --list
```

± is the standard deviation over seeds. A difference is called sure where a one-sided t-test of
seeds, paired, passes at 5%, and two settings equal where both tests of equivalence do within the
margin that is said. Minutes are CPU time on one core; two cores take half."""


def _table(known: Mapping[str, Claim], kept: Mapping[str, Any]) -> str:
    lines = ["| claim | the paper | here | verdict | CPU minutes |", "|---|---|---|---|---|"]
    for name, claim in known.items():
        said = kept.get(name)
        cells = (
            (said["here"], f"**{said['verdict']}**", f"{said['cpu_minutes']:.0f}")
            if said
            else ("", "not run yet", "")
        )
        title = f"[{claim.title}](#{_anchor(claim.title)})" if said else claim.title
        lines.append(f"| {title} | {claim.published} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _section(claim: Claim, said: Mapping[str, Any]) -> str:
    limits = (f"**What this scale cannot show.** {claim.limits}",) if claim.limits else ()
    return "\n\n".join(
        (
            f"## {claim.title}",
            f"{claim.statement} ({claim.source})",
            f"**Here.** {claim.setting}",
            f"**What would refute it.** {claim.refuted_by}",
            f"![{claim.title}]({_FOLDER}/{claim.name}.png)",
            _rows(said),
            f"**{said['verdict'].capitalize()}.** {said['because']}",
            *limits,
            f"`python -m benchmarks.claims {claim.name}`: {said['runs']} runs, "
            f"{said['cpu_minutes']:.0f} CPU minutes ({said['machine']}; {said['date']}).",
        )
    )


def _checks(known: Mapping[str, Claim], kept: Mapping[str, Any], checks: Mapping[str, Any]) -> str:
    lines = [
        "## Broken on purpose",
        "",
        "A verdict that nothing can change says nothing. The same trainings, with the mechanism "
        "that the claim is about broken:",
        "",
        "| claim | broken | verdict as it is | verdict broken | |",
        "|---|---|---|---|---|",
    ]
    for name, said in checks.items():
        lines.append(
            f"| {known[name].title} | {known[name].broken} | {kept[name]['verdict']} | "
            f"**{said['verdict']}** | {said['because']} |"
        )
    return "\n".join(lines)


def _rows(said: Mapping[str, Any]) -> str:
    lines = [said["header"], ["---"] * len(said["header"]), *said["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    kept = (c if c.isalnum() or c == "-" else "" for c in title.lower().replace(" ", "-"))
    return "".join(kept)
