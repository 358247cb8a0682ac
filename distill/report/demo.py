"""The demo's report: the table, learning curves, and images on which the models differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from distill.data import Source
from distill.report import html
from distill.report.curves import grid, of_runs
from distill.train import metrics

_SHOWN = 12
_RUNS = {"teacher": "teacher", "student": "student", "labels only": "labels_only"}


def write_demo_report(
    workdir: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    source: Source,
    student: np.ndarray,
    teacher: np.ndarray,
) -> Path:
    """Writes report.html.

    Args:
      workdir: of the demo; its runs are below.
      header: of the table of results.
      rows: of the table of results.
      source: the test images.
      student: the class the student prefers for each.
      teacher: the class the teacher prefers for each.
    """
    differ = np.flatnonzero(student != teacher)
    runs = {name: metrics.read(workdir / folder) for name, folder in _RUNS.items()}
    on_labels = {name: run for name, run in runs.items() if name != "student"}
    sections: list[html.Part] = [
        html.section(
            "Result",
            html.table(header, rows),
            html.paragraph(
                "Each student was trained for the same number of steps. Images/s counts training "
                "alone; time also includes compiling, evaluating and saving."
            ),
        ),
        html.section(
            "Learning curves",
            grid(
                [
                    of_runs(runs, "val/accuracy", "Validation accuracy"),
                    of_runs(runs, "val/agreement", "Agreement with the teacher on validation"),
                    of_runs(
                        {"student": runs["student"]},
                        "train/loss",
                        "Student's loss: KL to the teacher",
                    ),
                    of_runs(on_labels, "train/loss", "Sigmoid cross-entropy on labels"),
                ]
            ),
        ),
    ]
    if len(differ):
        caption = f"{min(len(differ), _SHOWN)} of {len(differ)} test images (of {len(source)})"
        sections.append(
            html.section(
                "Where student and teacher differ",
                html.figure(_gallery(source, differ[:_SHOWN].tolist(), student, teacher), caption),
            )
        )
    else:
        sections.append(html.paragraph("Student and teacher agree on every test image."))
    content = html.page("From a teacher to a student: handwritten digits", *sections)
    return html.write(workdir / "report.html", content)


def _gallery(source: Source, indices: Sequence[int], student, teacher) -> Figure:
    names, columns = source.class_names, 6
    lines = -(-len(indices) // columns)
    drawing = Figure(figsize=(1.5 * columns, 2.1 * lines))
    for place, index in enumerate(indices):
        example = source.read(int(index))
        image, label = example["image"], example["label"]
        axes = drawing.add_subplot(lines, columns, place + 1)
        axes.imshow(image.squeeze(), cmap="gray_r" if image.shape[-1] == 1 else None)
        axes.set_title(
            f"label {names[label]}\nteacher {names[teacher[index]]}, "
            f"student {names[student[index]]}",
            fontsize=8,
        )
        axes.set_axis_off()
    drawing.tight_layout()
    return drawing
