"""How many images of an evaluation may be unreadable, from the command line."""

import shutil

import pytest
from support import run_command


@pytest.fixture(scope="module")
def damaged(image_folder, tmp_path_factory):
    """Of six images to test on, two that cannot be decoded."""
    root = tmp_path_factory.mktemp("damaged") / "images"
    shutil.copytree(image_folder, root)
    for name in ("dark/0.jpg", "grey/1.jpg"):
        path = root / "test" / name
        path.write_bytes(path.read_bytes()[:40])
    return root


@pytest.mark.parametrize("command", ["predict", "evaluate", "compare"])
@pytest.mark.parametrize("share", [None, 0.5])
def test_the_share_is_a_flag(command, share, damaged, teacher_workdir, tmp_path):
    model = [teacher_workdir] if command == "compare" else [f"--workdir={teacher_workdir}"]
    if command == "predict":
        asked = [f"--source=folder:{damaged}", "--split=test"]
    else:
        keys = dict(kind="transfer", sources=f"('folder:{damaged}',)", test_split="test", shots=1)
        asked = [f"--config.evals.few.{key}={value}" for key, value in keys.items()]
    output = tmp_path / ("out.npz" if command == "predict" else "out")
    flags = [] if share is None else [f"--max_corrupt_share={share}"]
    done = run_command(command, *model, *asked, *flags, f"--output={output}", "--batch_size=8")
    if share is None:
        assert done.returncode == 1, done.stderr
        assert "--max_corrupt_share, allows" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_a_share_is_one():
    done = run_command("evaluate", "--workdir=run", "--max_corrupt_share=2")
    assert done.returncode == 2
    assert "expected number from 0 to 1" in done.stderr
