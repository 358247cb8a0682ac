"""The page of a run: what it is worth, how it learnt, what it says of images, its config.

It stands alone: one file, which asks the network for nothing and works without its script.
"""

import html as markup
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.json_files import read_json
from distill.parallel.printed import say
from distill.report import curves, html
from distill.report.examples import accuracy, example_sections, read_examples
from distill.report.headline import final, headline, human, human_bytes
from distill.runs.evaluated import FILE, kept
from distill.train import metrics
from distill.train.progress import format_figure
from distill.train.workdir import read_summary

PAGE = "report.html"


def write_run_report(workdir: Path) -> Path:
    """Writes report.html from what the run left in its workdir, and evaluations of it."""
    summary = read_summary(workdir) or {}
    config = read_json(workdir / "config.json")
    rows, examples = metrics.read(workdir), read_examples(workdir)
    steps = curves.step_curves(rows)
    content = html.page(
        f"Run {workdir.name}",
        f'<div class="lead">{headline(summary, rows, examples)}</div>',
        html.section("Learning curves", *curves.learning_curves(rows)),
        *(example_sections(examples) if examples is not None else ()),
        *_evaluations(workdir),
        *([html.section("Steps and speed", steps)] if steps else ()),
        html.section("Final figures", html.wide_table(("figure", "value"), _figures(summary))),
        html.section(
            "Config", html.details("config.json", html.preformatted(json.dumps(config, indent=2)))
        ),
        about=_about(config, workdir),
    )
    return html.write(workdir / PAGE, content)


def refresh_run_report(workdir: Path) -> None:
    """Writes the report of a finished run again, which then has what is evaluated of it since."""
    if (workdir / PAGE).exists() and (workdir / "summary.json").exists():
        try:
            write_run_report(workdir)
        except OSError as error:
            say(f"{workdir / PAGE} stays as it was: {error.strerror}")
        except UserError as error:
            say(f"{workdir / PAGE} stays as it was: {error}")


def write_students_report(workdir: Path, names: Sequence[str]) -> Path:
    """Writes report.html of several students of one run, beside each one's own.

    Args:
      workdir: in which those of the students lie.
      names: of the students.
    """
    header = ("student", "accuracy", "agreement", "parameters", "float32", "images/s", "teacher's")
    table, logged = [], {}
    for name in names:
        place = workdir / name
        summary = read_summary(place) or {}
        examples = read_examples(place)
        logged[name] = metrics.read(place)
        ours, theirs = None, None
        if examples is not None:
            ours, theirs = accuracy(examples, examples), accuracy(examples, examples["together"])
        table.append(
            (
                name,
                _share(final(summary, "accuracy")),
                _share(final(summary, "agreement")),
                human(summary["parameters"]),
                human_bytes(4 * summary["parameters"]),
                human(examples["images_per_second"]) if examples else "—",
                f"{ours / theirs:.1%} kept" if ours is not None and theirs else "—",
            )
        )
    links = "".join(
        f'<li><a href="{markup.escape(urllib.parse.quote(name))}/{PAGE}">{markup.escape(name)}</a>'
        "</li>"
        for name in names
    )
    shared = [name for name in _COMPARED if any(name in row for row in logged[names[0]])]
    content = html.page(
        f"Students of {workdir.name}",
        html.section("Beside each other", html.wide_table(header, table)),
        html.section("Learning curves", curves.compared(logged, shared)),
        html.section("Pages of each", f"<ul>{links}</ul>"),
    )
    return html.write(workdir / PAGE, content)


_COMPARED = ("val/accuracy", "val/agreement", "val/kl", "val/cka", "train/loss")
"""Of several students, what is drawn in one chart."""


def _share(found: tuple[str, float] | None) -> str:
    return "—" if found is None else f"{found[1]:.2%}"


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, format_figure(key, value)) for key, value in summary.items()]


def _about(config: Mapping[str, Any], workdir: Path) -> str:
    """Model and data in a line."""
    model, data = config.get("model") or {}, config.get("data", {})
    parts = [
        " ".join(str(model[key]) for key in ("family", "variant") if model.get(key)),
        f"on {data['source']}" if data.get("source") else "",
        f"seed {config['seed']}" if "seed" in config else "",
        str(workdir),
    ]
    return f'<p class="muted">{markup.escape(" · ".join(one for one in parts if one))}</p>'


def _evaluations(workdir: Path) -> list[html.Section]:
    """A section for each evaluation of the finished run; of those of one name, the latest."""
    lines = {line["name"]: line for line in kept(workdir / FILE)}
    if not lines:
        return []
    # Matplotlib takes a second to import.
    from distill.report.compared_figures import DRAWN

    found = []
    for name, line in lines.items():
        model = [{"name": workdir.name, "evaluations": {name: line}}]
        # Of a head, the split's evaluation is of what it tells of pixels.
        kind = line.get("details", {}).get("drawn_as") or line["config"].get("kind", "")
        drawn = [draw(model, name) for draw in DRAWN.get(kind, ())]
        values = line["metrics"].items()
        rows = [(key.removeprefix(f"{name}/"), format_figure(key, v)) for key, v in values]
        when = f"{line['time']}, step {line['step']}" if line.get("step") else line["time"]
        table = html.wide_table(("figure", when), rows)
        found.append(html.section(f"Evaluated: {name}", *drawn, table))
    return found
