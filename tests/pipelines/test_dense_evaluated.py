"""Evaluations of pixels as a user asks for them, and what is wrong with masks."""

import dense_images
import numpy as np
import pytest
from PIL import Image
from support import run_command


def mask(path, change):
    """Rewrites a mask."""
    Image.fromarray(change(np.array(Image.open(path)))).save(path)


def evaluate(model, root):
    keys = dict(kind="segmentation", source=f"masks:{root}", train_split="train", l2="0.1")
    keys |= {"test_split": "val"}
    flags = (f"--config.evals.seg.{key}={value}" for key, value in keys.items())
    return run_command("evaluate", f"--workdir={model}", *flags, "--batch_size=8")


def test_nothing_is_said_of_a_view_that_is_not_shown(teacher_workdir, tmp_path):
    done = evaluate(teacher_workdir, dense_images.write(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "seg/mean_iou" in done.stdout
    assert "windows of" in done.stderr
    assert "is shown the central" not in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda label: label[:5, :5], "has 5×5 pixels, but its image"),
        (lambda label: np.full_like(label, 9), "has the label 9 in row 0, column 0"),
    ],
)
def test_a_mask_that_does_not_fit_is_the_users_to_mend(change, said, teacher_workdir, tmp_path):
    file = dense_images.write(tmp_path) / "masks" / "val" / "01.png"
    mask(file, change)
    done = evaluate(teacher_workdir, tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"{file} {said}" in done.stderr
