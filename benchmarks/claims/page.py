"""`docs/papers.md`, made of what was concluded of each claim."""

import dataclasses
import datetime
import io
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.claim import SEEDS, Claim, Conclusion
from benchmarks.claims.performing import with_used
from benchmarks.claims.runs import Run
from distill.errors import Damaged
from distill.json_files import read_json, replace_file, write_json

PAGES = Path(__file__).resolve().parent.parent.parent / "docs"
"""Where the page lies, and beside it in `papers/` what it is made of."""

_FOLDER = "papers"


def keep(
    pages: Path,
    claim: Claim,
    conclusion: Conclusion,
    runs: Iterable[Run],
    root: Path,
    *,
    broken: bool = False,
) -> None:
    """Draws its figure, and writes what was concluded as JSON.

    Args:
      pages: the directory of `papers.md`.
      claim: of which.
      conclusion: what was.
      runs: of what.
      root: where these lie.
      broken: whether the mechanism was broken on purpose.
    """
    folder = pages / _FOLDER
    folder.mkdir(exist_ok=True)
    stem = f"{claim.name}_broken" if broken else claim.name
    from matplotlib.figure import Figure

    figure, drawn = Figure(figsize=(9, 3.6), layout="constrained"), io.BytesIO()
    claim.draw(conclusion, figure)
    figure.savefig(drawn, dpi=110, format="png")
    spent = {run.name: run.finished(root) for run in with_used(runs)}
    content = {
        **json.loads(json.dumps(dataclasses.asdict(conclusion))),
        "runs": len(spent),
        "cpu_minutes": round(sum(one.cpu_seconds for one in spent.values() if one) / 60, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": _machine(),
    }
    replace_file(folder / f"{stem}.png", drawn.getvalue())
    write_json(folder / f"{stem}.json", content, checked=True)


def _machine() -> str:
    import jax

    return f"{platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}"


def write_page(pages: Path, known: Mapping[str, Claim]) -> Path:
    """Writes `papers.md` of what is kept, and returns its path."""
    file = pages / "papers.md"
    replace_file(file, render(pages, known).encode())
    return file


def render(pages: Path, known: Mapping[str, Claim]) -> str:
    """The page, in Markdown.

    Raises:
      Damaged: if what it is made of is no longer what was written.
    """
    kept = {
        name: _read(file) for name in known if (file := pages / _FOLDER / f"{name}.json").exists()
    }
    parts = [_INTRODUCTION, _table(known, kept)]
    parts += [_section(known[name], kept[name]) for name in kept]
    checks = {
        name: _read(file)
        for name in kept
        if (file := pages / _FOLDER / f"{name}_broken.json").exists()
    }
    if checks:
        parts.append(_checks(known, kept, checks))
    return "\n\n".join(parts) + "\n"


def _read(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        raise Damaged(f"{file} is damaged: it is no conclusion; the claim's command writes it")
    if not file.with_suffix(".png").exists():
        raise Damaged(f"{file.with_suffix('.png')} is missing; the claim's command draws it")
    return content


_KEYS = {field.name for field in dataclasses.fields(Conclusion)} | {"runs", "cpu_minutes"}

_INTRODUCTION = f"""\
# The papers' claims, on a laptop

The papers behind this project make claims that a reader can check only with JFT and a thousand
chips. Most have a shadow at small scale: here each is redone on scikit-learn's digits, or on
scenes of them ([data.md](data.md#scenes-of-digits-side-by-side)), with {len(SEEDS)} seeds unless a
section says more, and judged by a rule, which the code has and the section tells; where that or a
setting was changed after a first look, the section says so. A verdict is of this scale: what does
not show here may well hold there.

```sh
python -m benchmarks.claims            # all of it; what is done is kept
python -m benchmarks.claims qk_norm    # one
python -m benchmarks.claims --list
```

They need what `make test` installs (`.[dev]`). In tables, ± is the standard deviation over seeds;
of a difference, whose sign is written, it is the standard error of its mean. A difference is sure
where a one-sided t-test of paired seeds passes at 5%, and two settings are equal where both tests
of equivalence do within the margin that is said. Seeds are of initialisation and order: images to
train on and to test on are the same for all.

**Holds**: all that the claim says was surely seen. **In part**: some of it was, and the contrary of
none of the rest. **Does not hold**: what would refute it was. **Not visible here**: neither.

Minutes are CPU time of all trainings that a claim looks at; two cores take half. What was
interrupted counts from where it went on. Four claims about size look at the same trainings, which
are done once."""


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
    together = sum(said["cpu_minutes"] for said in kept.values())
    lines += [
        "",
        f"Together that is {together:.0f} CPU minutes, less what is counted several times.",
    ]
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
