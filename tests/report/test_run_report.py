"""The page of a run stands alone, its curves in it."""

import base64
import json
import re
import shutil

from distill.report.run import refresh_run_report, write_run_report
from distill.runs.evaluated import FILE

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_curves_are_images_in_the_page(teacher_workdir, tmp_path):
    # Others may have evaluated the run they share.
    workdir = tmp_path / "teacher"
    shutil.copytree(teacher_workdir, workdir, ignore=shutil.ignore_patterns(FILE))
    page = write_run_report(workdir).read_text()
    images = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert len(images) == 3
    assert all(base64.b64decode(image).startswith(PNG) for image in images)


def test_what_is_evaluated_of_a_finished_run_is_in_its_report(teacher_workdir, tmp_path):
    workdir = tmp_path / "teacher"
    shutil.copytree(teacher_workdir, workdir, ignore=shutil.ignore_patterns(FILE))
    line = {
        "name": "dull",
        "config": {"kind": "split"},
        "metrics": {"dull/accuracy": 0.25},
        "time": "2026-01-02T03:04:05+00:00",
        "step": 7,
    }
    later = {**line, "metrics": {"dull/accuracy": 0.75}}
    (workdir / FILE).write_text("".join(json.dumps(one) + "\n" for one in (line, later)))
    refresh_run_report(workdir)
    page = (workdir / "report.html").read_text()
    assert "Evaluated: dull" in page and "2026-01-02T03:04:05+00:00, step 7" in page
    assert "<td>0.7500</td>" in page and "<td>0.2500</td>" not in page


def test_a_directory_without_a_report_gets_none(tmp_path):
    refresh_run_report(tmp_path)
    assert not list(tmp_path.iterdir())
