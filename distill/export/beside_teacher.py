"""What a run knows of a student beside its teacher, as a table of its card."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.evaluate.gallery import FILE as EXAMPLES
from distill.json_files import read_json
from distill.runs.evaluated import FILE as EVALUATIONS
from distill.runs.evaluated import Line, kept
from distill.train.progress import MATTERS, format_figure
from distill.train.workdir import read_summary, read_teachers

# Of a finished student, what says how near it is to its teacher.
_NEARNESS = {
    "agreement": "the same first class",
    "kl": "KL divergence, in nats",
    "cka": "CKA of the embeddings",
}
_NEEDED = {"teachers", "together", "label", "answers", "labelled", "split", "images_per_second"}


def comparison(workdir: Path) -> str | None:
    """Markdown of what is known of both; None where no teacher is, or several are.

    Taken from `summary.json`, `examples.json`, and the evaluations (`evaluations.jsonl`) of the
    student that its teacher's workdir has, too.

    Args:
      workdir: of the student's run.

    Raises:
      Damaged: if what is there is.
    """
    teachers = read_teachers(workdir)
    if len(teachers) != 1:
        return None
    ((name, teacher),) = teachers.items()
    rows = [*_answers(workdir, name), *_evaluations(workdir, Path(str(teacher.get("source"))))]
    near = [*_nearness(read_summary(workdir) or {})]
    table = ["| | student | teacher |", "|---|---|---|"]
    table += [f"| {what} | {ours} | {theirs} |" for what, ours, theirs in rows]
    parts = (["\n".join(table)] if rows else []) + (["\n".join(near)] if near else [])
    return "\n\n".join(parts) or None


def _answers(workdir: Path, teacher: str) -> Iterator[tuple[str, ...]]:
    """From what both said of the same held-out images."""
    file = workdir / EXAMPLES
    if not file.exists():
        return
    found = read_json(file)
    if (
        not isinstance(found, dict)
        or not found.keys() >= _NEEDED
        or teacher not in found["teachers"]
    ):
        return
    theirs, ours = found["teachers"][teacher], (read_summary(workdir) or {}).get("parameters")
    if ours is not None:
        yield "parameters", f"{ours:,}", f"{theirs['parameters']:,}"
    shares = [_accuracy(found, one) for one in (found, found["together"])]
    if None not in shares:
        on = f"accuracy on {len(found['label']):,} images of the {found['split']} split"
        yield on, *(f"{share:.2%}" for share in shares)
    rates = (found["images_per_second"], theirs["images_per_second"])
    where = f"images per second ({found.get('device')}, batches of {found.get('batch_size')})"
    yield where, *(f"{rate:,.0f}" for rate in rates)


def _accuracy(found: Mapping[str, Any], answers: Mapping[str, Any] | None) -> float | None:
    if answers is None or not found["labelled"]:
        return None
    pairs = [
        (label, one[0])
        for label, one in zip(found["label"], answers["answers"], strict=False)
        if label >= 0
    ]
    return sum(label == first for label, first in pairs) / len(pairs) if pairs else None


def _evaluations(workdir: Path, teacher: Path) -> Iterator[tuple[str, ...]]:
    """Of the evaluations by `distill evaluate` that both have had, what matters most."""
    ours, theirs = (_latest(place / EVALUATIONS) for place in (workdir, teacher))
    for name, line in ours.items():
        other = theirs.get(name)
        if other is None or any(line.get(key) != other.get(key) for key in ("config", "data")):
            continue
        for metric, value in line["metrics"].items():
            if metric.partition("/")[2] in MATTERS and metric in other["metrics"]:
                values = (value, other["metrics"][metric])
                yield f"`{metric}`", *(format_figure(metric, one) for one in values)


def _latest(file: Path) -> dict[str, Line]:
    try:
        return {line["name"]: line for line in kept(file)}
    except UserError:
        # A teacher's may be anywhere; `distill evaluate` says what is wrong with a run's.
        return {}


def _nearness(summary: Mapping[str, Any]) -> Iterator[str]:
    for metric, what in _NEARNESS.items():
        for split, called in (("test", "test"), ("val", "validation")):
            if (value := summary.get(f"{split}/{metric}")) is not None:
                shown = f"{value:.2%}" if metric == "agreement" else format_figure("/", value)
                yield f"- {what}, student and teacher on the {called} split: {shown}"
                break
