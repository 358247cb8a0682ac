"""Commands that take a run's best weights instead of its last."""

import contextlib
import shutil

import jax
import numpy as np
import pytest

from distill.errors import UserError
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.train.best import Best
from pipelines import evaluate, export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workdir(teacher_workdir, tmp_path_factory):
    """The teacher's run, as if it had done best at step 5 of 10."""
    path = tmp_path_factory.mktemp("run") / "teacher"
    shutil.copytree(teacher_workdir, path)
    params = open_model(path, make_mesh(MeshConfig()), step=5).params
    with contextlib.closing(Best(path, "val/accuracy")) as best:
        assert best.offer(5, 0.5, params)
    return path


@pytest.fixture(autouse=True)
def fresh_flags():
    """Flags keep their values, and a process usually parses them once."""
    for values in (evaluate.FLAGS, export.FLAGS):
        values.unparse_flags()
        for name in values:
            values[name].unparse()
    yield


def test_the_best_weights_are_read_like_a_checkpoint(workdir):
    mesh = make_mesh(MeshConfig())
    best, fifth, last = (
        open_model(workdir, mesh, **which).params for which in (dict(best=True), dict(step=5), {})
    )
    jax.tree.map(np.testing.assert_array_equal, best, fifth)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, best, last)))


def test_evaluate_takes_them_if_told(workdir, capsys):
    scores = []
    for flags in ([], ["--best"], ["--knn=1"], ["--knn=1", "--best"]):
        evaluate.FLAGS.unparse_flags()
        evaluate.FLAGS["best"].unparse()
        evaluate.main([f"--workdir={workdir}", *flags])
        scores.append(capsys.readouterr().out)
    assert scores[0] != scores[1] and scores[2] != scores[3]


def test_a_run_that_kept_none_says_how_to(teacher_workdir):
    message = r"no best weights in .* --config\.train\.keep_best=val/accuracy"
    for command in (evaluate, export):
        with pytest.raises(UserError, match=message):
            command.main([f"--workdir={teacher_workdir}", "--best"])
    assert not (teacher_workdir / "best").exists()


def test_the_best_of_an_unfinished_run_may_change(workdir, tmp_path):
    unfinished = tmp_path / "run"
    shutil.copytree(workdir, unfinished)
    (unfinished / "summary.json").unlink()
    with pytest.raises(UserError, match="is not complete"):
        open_model(unfinished, make_mesh(MeshConfig()), best=True)
