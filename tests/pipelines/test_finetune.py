"""Fine-tuning starts from what was trained."""

import jax
import numpy as np
import pytest
from support import REPOSITORY, final_params, run_command

from distill.config import ConfigError, load_file, resolve
from distill.json_files import read_json
from distill.nn.adapt import CLASSIFIER, adapt
from distill.nn.embeddings import resize_grid
from distill.nn.family import ModelConfig
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import evaluate, finetune
from pipelines.finetune import FinetuneConfig, complete

CONFIG = REPOSITORY / "configs/finetune/digits.py"


def config_of(teacher, **overrides):
    keys = {
        "start.workdir": str(teacher),
        "train.total_steps": "4",
        "train.checkpoint_every": "2",
        "schedule.warmup_steps": "1",
    } | {key.replace("__", "."): str(value) for key, value in overrides.items()}
    return resolve(FinetuneConfig, complete(load_file(str(CONFIG)), keys), keys)


def without(tree, *names):
    return {key: value for key, value in tree.items() if key not in names}


@pytest.fixture(scope="module")
def finetuned(teacher_workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("finetuned")
    done = run_command(*command_of(teacher_workdir, path))
    assert done.returncode == 0, done.stderr
    return path


def command_of(teacher, workdir):
    return (
        "finetune",
        f"--config={CONFIG}",
        f"--workdir={workdir}",
        f"--config.start.workdir={teacher}",
        "--config.train.total_steps=4",
        "--config.train.checkpoint_every=2",
        "--config.schedule.warmup_steps=1",
        '--config.optimizer.freeze=(("encoder", True), ("head", True))',
    )


def test_the_model_is_the_trained_one_but_for_what_the_config_says(teacher_workdir):
    recorded = read_json(teacher_workdir / "config.json")["model"]
    model = config_of(teacher_workdir, model__num_classes=7).model
    expected = recorded | {"image_size": 16, "num_classes": 7}
    assert model == resolve(ModelConfig, expected)


def test_a_run_starts_from_the_trained_parameters(teacher_workdir, finetuned):
    before, after = final_params(teacher_workdir), final_params(finetuned)
    for name in ("encoder", "head"):
        jax.tree.map(np.testing.assert_array_equal, before[name], after[name])
    kernels = [tree["patch_embed"]["linear"]["kernel"] for tree in (before, after)]
    np.testing.assert_allclose(*kernels, atol=0.2)
    assert not np.array_equal(*kernels)
    assert after["position"]["table"].shape[:2] == (8, 8)


def test_the_accuracy_before_the_first_step_is_logged(finetuned):
    rows = metrics.read(finetuned)
    assert [row["step"] for row in rows] == [0, 1, 4]
    assert "val/accuracy" in rows[0]
    assert "train/loss" not in rows[0]


def test_doubling_the_grid_interpolates_positions_alone(teacher_workdir):
    network = config_of(teacher_workdir).model.network()
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    params = final_params(teacher_workdir)
    adapted = adapt(params, network.placed(mesh), jax.random.key(0))
    old, new = (np.asarray(tree["position"]["table"]) for tree in (params, adapted))
    np.testing.assert_array_equal(new, resize_grid(old, (8, 8)))
    jax.tree.map(
        np.testing.assert_array_equal, without(params, "position"), without(adapted, "position")
    )


def test_a_new_classifier_starts_at_zero_for_its_own_classes(teacher_workdir):
    config = config_of(teacher_workdir, model__num_classes=3)
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    network = config.model.network().placed(mesh)
    adapted = adapt(final_params(teacher_workdir), network, jax.random.key(0), fresh=(CLASSIFIER,))
    kernel = adapted["classifier"]["kernel"]
    assert kernel.shape == (16, 3)
    assert not np.any(kernel)


def test_the_command_resumes_and_its_model_can_be_evaluated(teacher_workdir, finetuned):
    done = run_command(*command_of(teacher_workdir, finetuned))
    assert done.returncode == 0, done.stderr
    assert "complete already" in done.stderr
    summary = read_json(finetuned / "summary.json")
    assert evaluate.run(finetuned)["test/accuracy"] == pytest.approx(summary["test/accuracy"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model__width": 32}, r"patch_embed/linear/bias is \(16,\) there and \(32,\) here"),
        ({"model__position_embedding": "sincos2d"}, "learned there and sincos2d here"),
        (
            {"model__num_classes": 7},
            r"to be kept has 10 classes .* config\.model 7; set config\.model\.num_classes=10",
        ),
        ({"model__image_size": 17}, "not divisible by patch size"),
    ],
)
def test_another_model_is_refused(teacher_workdir, tmp_path, overrides, message):
    with pytest.raises(Exception, match=message) as error:
        finetune.run(config_of(teacher_workdir, **overrides), Workdir(tmp_path), overview=False)
    assert error.value.exit_code == 2


def test_a_start_must_be_named():
    with pytest.raises(ConfigError, match=r"config\.start: give workdir, .* or weights\.path"):
        complete({"model": {}}, {})
