"""The page of a run stands alone, its curves in it."""

import base64
import re

from distill.report.run import write_run_report

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_curves_are_images_in_the_page(teacher_workdir):
    page = write_run_report(teacher_workdir).read_text()
    images = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert len(images) == 3
    assert all(base64.b64decode(image).startswith(PNG) for image in images)
