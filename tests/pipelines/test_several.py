"""Several students, several teachers, and teachers without a classifier."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from support import REPOSITORY, distill_config, final_params, without_timings

from distill.config import ConfigError, load_file, resolve, to_dict
from distill.errors import Damaged, UserError
from distill.estimate.jobs import make_job
from distill.json_files import read_json
from distill.parallel import MeshConfig, make_mesh
from distill.runs.distillation import DistillConfig
from distill.train import metrics
from distill.train.damage import steps_in
from distill.train.workdir import Workdir
from pipelines import distill_student, evaluate

pytestmark = pytest.mark.slow

SMALL = dict(model__width=8, model__heads=1)
LARGE = dict(model__width=24, model__depth=1, optimizer__learning_rate=1e-2)
RUN = dict(train__checkpoint_every=4)


@pytest.fixture(scope="module")
def alone(teacher_workdir):
    """What each student would be distilled with alone."""
    return {
        name: distill_config(teacher_workdir, **RUN, **own)
        for name, own in {"small": SMALL, "large": LARGE}.items()
    }


@pytest.fixture(scope="module")
def together(alone):
    """One config that has both students."""
    tree = to_dict(alone["small"]) | {"model": None}
    tree["students"] = {
        "small": {"model": vars(alone["small"].model), "optimizer": vars(alone["small"].optimizer)},
        "large": {"model": vars(alone["large"].model), "learning_rate": 1e-2},
    }
    return resolve(DistillConfig, tree)


@pytest.fixture(scope="module")
def trained(together, tmp_path_factory):
    path = tmp_path_factory.mktemp("together")
    distill_student.run_all(together, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def trained_alone(alone, tmp_path_factory):
    path = tmp_path_factory.mktemp("alone")
    for name, config in alone.items():
        distill_student.run(config, Workdir(path / name), overview=False)
    return path


def test_a_student_is_what_it_would_be_alone(alone, trained, trained_alone):
    for name in alone:
        path = trained_alone / name
        jax.tree.map(
            np.testing.assert_array_equal, final_params(path), final_params(trained / name)
        )
        rows = [without_timings(metrics.read(p)) for p in (path, trained / name)]
        assert rows[0] == rows[1]
        recorded = [read_json(p / "config.json") for p in (path, trained / name)]
        assert recorded[0] == recorded[1]


def test_students_that_were_saved_at_different_steps_go_on_from_the_same(
    together, trained, tmp_path, capsys
):
    """As a kill between two checkpoints leaves them."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name in together.students:
        (tmp_path / name / "summary.json").unlink()
    shutil.rmtree(tmp_path / "large" / "checkpoints" / "10")
    distill_student.run_all(together, Workdir(tmp_path), overview=False)
    assert "resuming after step 8" in capsys.readouterr().err
    for name in together.students:
        paths = tmp_path / name, trained / name
        jax.tree.map(np.testing.assert_array_equal, *map(final_params, paths))
        rows = [without_timings(metrics.read(path)) for path in paths]
        assert rows[0] == rows[1]


def test_of_one_checkpoint_each_students_keep_two_for_a_kill_between_their_saves(
    together, trained, tmp_path, capsys
):
    train = dataclasses.replace(together.train, keep_checkpoints=1)
    distill_student.run_all(
        dataclasses.replace(together, train=train), Workdir(tmp_path), overview=False
    )
    for name in together.students:
        assert steps_in(tmp_path / name / "checkpoints") == [8, 10]
        (tmp_path / name / "summary.json").unlink()
    shutil.rmtree(tmp_path / "large" / "checkpoints" / "10")
    distill_student.run_all(
        dataclasses.replace(together, train=train), Workdir(tmp_path), overview=False
    )
    assert "resuming after step 8" in capsys.readouterr().err
    for name in together.students:
        jax.tree.map(
            np.testing.assert_array_equal,
            final_params(tmp_path / name),
            final_params(trained / name),
        )


def test_students_without_a_step_in_common_are_not_trained_anew_without_a_word(
    together, trained, tmp_path
):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for name, gone in {"small": (4, 8), "large": (10,)}.items():
        (tmp_path / name / "summary.json").unlink()
        for step in gone:
            shutil.rmtree(tmp_path / name / "checkpoints" / str(step))
    with pytest.raises(
        Damaged, match=r"the newest are step 8 of large, step 10 of small\. Put back"
    ):
        distill_student.run_all(together, Workdir(tmp_path), overview=False)
    assert steps_in(tmp_path / "small" / "checkpoints") == [10]


def test_a_students_directory_is_the_workdir_of_a_run(trained):
    found = evaluate.run(trained / "large")
    summary = read_json(trained / "large" / "summary.json")
    assert found["test/agreement"] == pytest.approx(summary["test/agreement"])


def test_a_plan_is_of_one_student(together):
    with pytest.raises(UserError, match="one student at a time"):
        make_job(together, make_mesh(MeshConfig()), None)


def test_a_plan_has_projections_and_the_teachers_own_view(alone, teacher_workdir):
    """The job's step can be traced with what it describes."""
    tree = to_dict(alone["large"])
    recorded = read_json(teacher_workdir / "config.json")["model"]
    tree["teacher"]["model"] = recorded
    tree["matching"] |= {"mixup": 0.0, "teacher_view": "fixed"}
    tree["matching"]["losses"] |= {"kl": 0.0, "embedding_mse": 1.0}
    tree["model"]["num_classes"] = 0
    job = make_job(resolve(DistillConfig, tree), make_mesh(MeshConfig()), None)
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), "uint8")
    batch = {"image": image, "label": jax.ShapeDtypeStruct((2,), "int32")}
    key = jax.random.key(0)
    assert job.examples["teacher_image"] == job.examples["image"]
    prepared = jax.eval_shape(job.task.prepare, job.frozen, batch | {"teacher_image": image}, key)
    loss, _ = jax.eval_shape(job.task.loss, job.network.abstract_params, prepared)
    assert loss.shape == ()
    assert "projections" in job.network.abstract_params


def test_teachers_are_weighted_by_name(alone, trained_alone, teacher_workdir, tmp_path):
    """Two copies of a teacher are that teacher, if its loss counts half for each."""
    tree = to_dict(alone["small"]) | {"teacher": None}
    halves = {name: {"workdir": str(teacher_workdir), "weight": 0.5} for name in ("one", "two")}
    several = resolve(DistillConfig, tree | {"teachers": halves})
    distill_student.run(several, Workdir(tmp_path), overview=False)
    rows = [metrics.read(path)[-1] for path in (tmp_path, trained_alone / "small")]
    for name in ("train/loss", "val/kl"):
        # A divergence so small is a difference of logarithms that float32 rounds.
        assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3, abs=1e-7)


def test_a_student_of_embeddings_leaves_its_projections_behind(teacher_workdir, tmp_path):
    config = distill_config(
        teacher_workdir,
        matching__losses__kl=0.0,
        matching__losses__embedding_cosine=1.0,
        model__num_classes=0,
        **RUN,
    )
    trained = distill_student.run(config, Workdir(tmp_path), overview=False)
    losses = [row["train/loss"] for row in metrics.read(tmp_path)]
    assert losses[-1] < losses[0]
    params = final_params(tmp_path)
    assert "projections" not in params
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert trained.summary["parameters"] == count == config.model.network().parameter_count()
    # It goes on from what a kill has left, projections and all.
    whole = final_params(tmp_path)
    (tmp_path / "summary.json").unlink()
    shutil.rmtree(tmp_path / "checkpoints" / "10")
    distill_student.run(config, Workdir(tmp_path), overview=False)
    jax.tree.map(np.testing.assert_array_equal, whole, final_params(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "give teacher"),
        ({"teachers": {"other": {"workdir": "there"}}}, "or several teachers by name"),
        ({"students": {"small": {}}}, r"students\.small\.model\.family is missing"),
        ({"model": None}, "give model, the student, or several students"),
        (
            {"teacher": {"workdir": "there", "weight": 0.0}},
            "teacher.weight is 0.0",
        ),
    ],
)
def test_a_run_has_teachers_and_students(change, message):
    tree = load_file(str(REPOSITORY / "configs/distill/digits.py"))
    with pytest.raises(ConfigError, match=message):
        resolve(DistillConfig, tree | change)
