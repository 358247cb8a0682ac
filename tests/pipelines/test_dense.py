"""Students of tokens and layers: standardised, stored, resumed, several, of a larger view."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from published import big_vision_arrays
from safetensors.numpy import load_file, save_file
from support import distill_config, final_params, pretrain_config, without_timings

from distill.config import ConfigError, resolve, to_dict
from distill.errors import Damaged, UserError
from distill.estimate.jobs import make_job
from distill.json_files import read_json
from distill.nn.embeddings import resize_grid
from distill.parallel import MeshConfig, make_mesh
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import tower_of
from distill.runs.standardised import FILE
from distill.runs.storing import StoreTargetsConfig
from distill.runs.students import view_size
from distill.runs.teachers import TeacherConfig, load_teachers
from distill.runs.weights import WeightsConfig
from distill.tasks.matching.standardise import STATISTICS
from distill.train import metrics
from distill.train.branch import branch_config
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain, store_targets

pytestmark = pytest.mark.slow

DENSE = dict(
    model__num_classes=0,
    matching__losses__kl=0,
    matching__losses__tokens_cosine=0.9,
    matching__losses__tokens_smooth_l1=0.1,
    matching__losses__layers_mse=0.5,
    matching__losses__layers_gram=1,
    matching__layers="((1, 1), (2, 3))",
    matching__standardise="phi_s",
    matching__standardise_batches=3,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run with more layers than its student."""
    path = tmp_path_factory.mktemp("teacher")
    pretrain.run(pretrain_config(model__depth=3), Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def config(teacher):
    return distill_config(teacher, **DENSE)


@pytest.fixture(scope="module")
def live(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("live")
    distill_student.run(config, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def targets(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("targets")
    stored = to_dict(config) | {"store": {"dtype": "float32"}}
    return store_targets.run(resolve(StoreTargetsConfig, stored), Workdir(path))


def replay(config, targets, **changes):
    matching = dataclasses.replace(config.matching, **changes)
    return dataclasses.replace(config, teacher=None, targets=str(targets.path), matching=matching)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, final_params(one), final_params(other))
    assert (one / FILE).read_bytes() == (other / FILE).read_bytes()


def training_rows(path):
    rows = without_timings(metrics.read(path))
    return [{k: v for k, v in row.items() if k.startswith("train/")} for row in rows]


def test_a_replay_is_the_live_run_bit_for_bit(config, live, targets, tmp_path):
    assert targets.contents.about["layers"] == {"normed": True, "of": {"teacher": [1, 3]}}
    distill_student.run(replay(config, targets), Workdir(tmp_path), overview=False)
    same(tmp_path, live)
    assert training_rows(tmp_path) == training_rows(live)
    assert training_rows(live)[-1].keys() >= {"train/layers_gram", "train/tokens_smooth_l1"}


def test_teachers_are_standardised_by_the_runs_first_batches(targets, live):
    """All patches of the stored answers of three batches, in float64."""
    rows = [targets.read(position) for position in range(3 * 32)]
    tokens = np.concatenate([row["tokens/teacher"] for row in rows]).astype(np.float64)
    found = load_file(live / FILE)
    assert found["layers/teacher/rotation"].shape == (2, 16, 16)
    mean, rotation = found["tokens/teacher/mean"], found["tokens/teacher/rotation"]
    np.testing.assert_allclose(mean, tokens.mean(0), atol=1e-5)
    turned = (tokens - mean) @ rotation
    np.testing.assert_allclose(turned.var(0), 1, rtol=1e-3)


def test_a_store_serves_other_students_layers_and_refuses_other_layers_of_the_teacher(
    config, targets, tmp_path
):
    other = replay(config, targets, layers=((2, 1), (1, 3)), standardise="none")
    short = dataclasses.replace(other, train=dataclasses.replace(config.train, total_steps=2))
    distill_student.run(short, Workdir(tmp_path / "other"), overview=False)
    for change in (dict(layers=((1, 2),)), dict(layers_normed=False)):
        with pytest.raises(UserError, match="compares other layers of the teachers than"):
            distill_student.run(replay(config, targets, **change), Workdir(tmp_path / "refused"))
    assert not (tmp_path / "refused" / "config.json").exists()


def interrupted(live, path):
    """The run as a kill after its first checkpoint leaves it."""
    shutil.copytree(live, path)
    (path / "summary.json").unlink()
    shutil.rmtree(path / "checkpoints" / "10")
    return path


def test_a_resumed_run_has_the_statistics_it_began_with(config, live, tmp_path, monkeypatch):
    path = interrupted(live, tmp_path / "run")
    monkeypatch.setattr("distill.runs.standardised._measured", None)
    distill_student.run(config, Workdir(path), overview=False)
    same(path, live)


def test_statistics_that_are_gone_or_anothers_end_a_resumed_run(config, live, tmp_path):
    path = interrupted(live, tmp_path / "run")
    arrays = load_file(path / FILE) | {"tokens/teacher/mean": np.zeros(3, np.float32)}
    save_file(arrays, path / FILE)
    with pytest.raises(
        UserError, match=r"statistics\.safetensors is not of this run: .*mean \[3\]"
    ):
        distill_student.run(config, Workdir(path), overview=False)
    content = bytearray((live / FILE).read_bytes())
    content[-1] ^= 1
    (path / FILE).write_bytes(content)
    with pytest.raises(Damaged, match=r"statistics\.safetensors is damaged.*checksum"):
        distill_student.run(config, Workdir(path), overview=False)
    (path / FILE).unlink()
    with pytest.raises(UserError, match=r"statistics\.safetensors is gone"):
        distill_student.run(config, Workdir(path), overview=False)


def test_a_branch_has_the_statistics_of_the_run_it_leaves(teacher, tmp_path, monkeypatch):
    parent, path = tmp_path / "parent", tmp_path / "branch"
    constant = dict(schedule__kind="constant", train__total_steps=5, train__keep_every=5)
    distill_student.run(
        distill_config(teacher, **DENSE | constant), Workdir(parent), overview=False
    )
    keys = {"schedule.cooldown_steps": "2"}
    config = branch_config(DistillConfig, f"{parent}@5", keys, path)
    monkeypatch.setattr("distill.runs.standardised._measured", None)
    distill_student.run(config, Workdir(path), overview=False)
    assert (path / FILE).read_bytes() == (parent / FILE).read_bytes()


def test_each_of_several_students_is_what_it_is_alone(config, live, tmp_path):
    tree = to_dict(config) | {"model": None}
    tree["students"] = {
        "one": {"model": to_dict(config)["model"]},
        "two": {"model": to_dict(config)["model"] | {"width": 8, "heads": 1}},
    }
    distill_student.run_all(resolve(DistillConfig, tree), Workdir(tmp_path), overview=False)
    same(tmp_path / "one", live)
    assert (tmp_path / "two" / FILE).read_bytes() == (tmp_path / "one" / FILE).read_bytes()


def test_a_plan_has_statistics_among_what_is_frozen(config, teacher):
    tree = to_dict(config)
    tree["teacher"]["model"] = read_json(teacher / "config.json")["model"]
    job = make_job(resolve(DistillConfig, tree), make_mesh(MeshConfig()), None)
    assert job.frozen.keys() == {"teacher", STATISTICS}
    image = jax.ShapeDtypeStruct((2, 8, 8, 1), "uint8")
    batch = {"image": image, "label": jax.ShapeDtypeStruct((2,), "int32")}
    prepared = jax.eval_shape(job.task.prepare, job.frozen, batch, jax.random.key(0))
    loss, _ = jax.eval_shape(job.task.loss, job.network.abstract_params, prepared)
    assert loss.shape == ()


def test_a_teacher_that_sees_larger_views_has_them_cut_larger(config, teacher, tmp_path):
    """Twice the side, and its tokens are resampled to the student's grid."""
    large = dataclasses.replace(config.teacher, image_size=16)
    config = dataclasses.replace(config, teacher=large)
    stored = to_dict(config) | {"store": {"dtype": "float32", "epochs": None}}
    store = store_targets.run(resolve(StoreTargetsConfig, stored), Workdir(tmp_path / "targets"))
    assert store.contents.about["views"]["side of the views"] == 16
    shapes = {name: tuple(shape) for name, (_, shape) in store.contents.arrays.items()}
    assert shapes == {"tokens/teacher": (64, 16), "layers/teacher": (2, 64, 16)}
    distill_student.run(config, Workdir(tmp_path / "live"), overview=False)
    # The teacher is named, too: it is the same at this size.
    again = dataclasses.replace(config, targets=str(store.path))
    distill_student.run(again, Workdir(tmp_path / "replayed"), overview=False)
    same(tmp_path / "live", tmp_path / "replayed")


def test_a_teachers_positions_are_interpolated_for_larger_views(teacher):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    configs = {
        name: TeacherConfig(workdir=str(teacher), image_size=size)
        for name, size in (("as_it_is", None), ("same", 8), ("large", 16))
    }
    teachers, params = load_teachers(configs, mesh)
    assert [one.network.config.grid for one in teachers.values()] == [(4, 4), (4, 4), (8, 8)]
    jax.tree.map(np.testing.assert_array_equal, params["as_it_is"], params["same"])
    table = params["as_it_is"]["position"]["table"]
    np.testing.assert_allclose(
        params["large"]["position"]["table"], resize_grid(table, (8, 8)), atol=1e-6
    )
    # The network itself would interpolate them for a larger image.
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 1)).astype(np.float32)
    found = teachers["large"].network.apply(params["large"], images).tokens
    expected = teachers["as_it_is"].network.apply(params["as_it_is"], images).tokens
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"teacher__image_size": 15}, r"image size 15×15 is not divisible by patch size 2"),
        ({"model__width": 18, "matching__layers": "((3, 1),)"}, "the student has 2 layers"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    teacher, tmp_path, overrides, message
):
    with pytest.raises(ConfigError, match=message):
        config = distill_config(teacher, **DENSE | overrides)
        distill_student.run(config, Workdir(tmp_path), overview=False)
    assert not (tmp_path / "config.json").exists()


def test_a_size_of_published_weights_is_theirs():
    with pytest.raises(ValueError, match=r"give weights\.image_size"):
        TeacherConfig(weights=WeightsConfig(path="weights"), image_size=16)


def test_published_weights_of_a_larger_size_have_views_cut_larger(tmp_path, config):
    path = tmp_path / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls", classes=10))
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    own, large = (
        load_teachers(
            {"t": TeacherConfig(weights=WeightsConfig(path=str(path), image_size=size))}, mesh
        )[0]
        for size in (None, 64)
    )
    patch = own["t"].network.config.patch_size
    assert own["t"].network.config.image_shape[0] < 64
    assert large["t"].network.config.grid == (64 // patch, 64 // patch)
    student = {"s": config.model.network()}
    assert [view_size(student, one) for one in (own, large)] == [
        own["t"].network.config.image_shape[0],
        64,
    ]


def test_an_image_tower_that_texts_are_trained_on_keeps_its_size(teacher):
    with pytest.raises(UserError, match=r"leave config\.teacher\.image_size out"):
        tower_of(TeacherConfig(workdir=str(teacher), image_size=16))
