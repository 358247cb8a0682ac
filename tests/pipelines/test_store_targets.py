"""Targets that are stored and replayed: the live run without its teacher."""

import dataclasses
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from support import (
    REPOSITORY,
    arguments,
    distill_config,
    final_params,
    pretrain_config,
    run_python,
    without_timings,
)

from distill.config import load_file, resolve, to_dict
from distill.data import Store
from distill.data.views import ViewConfig, draw_view, generator
from distill.errors import RunFailed, UserError
from distill.mixing import mixup
from distill.runs import answers
from distill.runs.distillation import DistillConfig
from distill.runs.storing import StoreTargetsConfig
from distill.train import metrics
from distill.train.loop import Stopped
from distill.train.state import STEP_STREAM
from distill.train.workdir import Workdir
from pipelines import distill_student, evaluate, pretrain, store_targets

IMAGES, BATCH = 1197, 32


def store_config(config, **store):
    return resolve(StoreTargetsConfig, to_dict(config) | {"store": store})


def replay_config(config, path, **changes):
    return dataclasses.replace(config, teacher=None, targets=str(path), **changes)


@pytest.fixture(scope="module")
def config(teacher_workdir):
    """Embeddings go through a projection, so that more than logits is replayed."""
    return distill_config(teacher_workdir, matching__losses__embedding_mse=0.1)


@pytest.fixture(scope="module")
def live(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("live")
    distill_student.run(config, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def stored(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("targets")
    store_targets.run(store_config(config, dtype="float32", examples_per_file=100), Workdir(path))
    return path


def training_rows(path):
    rows = without_timings(metrics.read(path))
    return [{k: v for k, v in row.items() if k.startswith(("step", "train/"))} for row in rows]


def test_a_replay_is_the_live_run_bit_for_bit_without_its_teacher(
    config, live, stored, tmp_path, capsys
):
    replay = replay_config(config, stored)
    distill_student.run(replay, Workdir(tmp_path), overview=False)
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path), final_params(live))
    assert training_rows(tmp_path) == training_rows(live)
    assert "train/agreement" in training_rows(tmp_path)[-1]
    told = capsys.readouterr().err
    assert "on validation, when its targets were stored" in told
    scores = evaluate.run(tmp_path)
    assert scores["test/accuracy"] == Workdir(live).summary["test/accuracy"]
    assert "test/agreement" not in scores


def test_records_hold_the_views_their_mixture_and_what_decides_them(config, stored):
    store = Store(stored)
    about = store.contents.about
    assert len(store) == 10 * BATCH
    assert store.contents.files == 4
    assert about["views"]["seed"] == config.seed
    assert list(about["teachers"]) == ["teacher"] and len(store.contents.arrays) == 2
    view = ViewConfig(**dataclasses.asdict(config.data.view))
    stream = jax.random.fold_in(jax.random.key(config.seed), STEP_STREAM)
    for step in (0, 7):
        rows = [store.read(step * BATCH + row) for row in range(BATCH)]
        black = np.zeros((BATCH, 8, 8, 1), np.uint8)
        share = mixup(jax.random.fold_in(stream, step), black, 1.0).weights
        np.testing.assert_allclose([row["share"] for row in rows], share, rtol=1e-6)
        assert 0.5 <= rows[0]["share"] < 1
        for place, row in enumerate(rows):
            rng = generator(config.seed, int(row["epoch"]), int(row["index"]))
            box, flip = draw_view(8, 8, view, rng)
            assert tuple(row["box"]) == box and bool(row["flip"]) == flip
            assert row["partner"] == rows[place - 1]["index"]


def test_an_interrupted_command_goes_on_and_ends_with_the_same(
    config, stored, tmp_path, monkeypatch, capsys
):
    class Stopping:
        """Asks to stop after the eighth batch."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def after(self, step):
            return "SIGTERM" if step == 8 else None

    again = store_config(config, dtype="float32", examples_per_file=100)
    monkeypatch.setattr(answers, "StopRequest", Stopping)
    with pytest.raises(Stopped, match="stopped by SIGTERM after batch 8 of 10"):
        store_targets.run(again, Workdir(tmp_path))
    monkeypatch.undo()
    with pytest.raises(UserError, match="not complete: 2 of 4 files"):
        distill_student.run(replay_config(config, tmp_path), Workdir(tmp_path / "student"))
    store_targets.run(again, Workdir(tmp_path))
    assert "6 of 10 batches are there already" in capsys.readouterr().err
    one, other = Store(tmp_path), Store(stored)
    assert [one.read(p) for p in range(len(one))] == [other.read(p) for p in range(len(other))]


@pytest.mark.slow
def test_a_longer_run_sees_what_is_stored_again_and_again(config, tmp_path):
    short = store_config(config, dtype="float32", epochs=5 * BATCH / IMAGES)
    store = store_targets.run(short, Workdir(tmp_path / "short"))
    assert len(store) == 5 * BATCH
    # Rate and decay of nothing leave the student as it is, so that a batch that comes again shows.
    still = dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-18, weight_decay=()),
        train=dataclasses.replace(config.train, log_every=1),
    )
    path = tmp_path / "student"
    distill_student.run(replay_config(still, store.path), Workdir(path), overview=False)
    losses = [row["train/loss"] for row in training_rows(path)]
    assert len(set(losses)) == 5
    assert losses[:5] == losses[5:]


def test_the_most_probable_classes_are_enough_to_learn_from(config, tmp_path):
    logits = dataclasses.replace(
        config,
        matching=dataclasses.replace(
            config.matching, losses=dataclasses.replace(config.matching.losses, embedding_mse=0.0)
        ),
    )
    store = store_targets.run(store_config(logits, top_k=3), Workdir(tmp_path / "top"))
    # Three log-probabilities in float16 and their classes, and the rest.
    arrays = store.contents.arrays
    assert sum(np.dtype(d).itemsize * int(np.prod(s)) for d, s in arrays.values()) == 3 * 6 + 2
    replay = replay_config(logits, store.path)
    trained = distill_student.run(replay, Workdir(tmp_path / "student"), overview=False)
    assert np.isfinite(trained.summary["val/cross_entropy"])
    distances = dataclasses.replace(logits.matching.losses, kl=0.0, logits_l2=1.0)
    replay = dataclasses.replace(
        replay, matching=dataclasses.replace(logits.matching, losses=distances)
    )
    with pytest.raises(UserError, match="logits_l2 compares logits, but of most classes"):
        distill_student.run(replay, Workdir(tmp_path / "other"))


@pytest.mark.slow
def test_the_right_teacher_may_be_named_and_another_is_refused(config, stored, tmp_path):
    other = tmp_path / "other"
    pretrain.run(pretrain_config(seed=1), Workdir(other), overview=False)
    named = dataclasses.replace(config, targets=str(stored))
    wrong = dataclasses.replace(
        named, teacher=dataclasses.replace(config.teacher, workdir=str(other))
    )
    with pytest.raises(UserError, match=r"not those of the teacher in .*: its fingerprint is"):
        distill_student.run(wrong, Workdir(tmp_path / "wrong"))
    rounded = dataclasses.replace(
        named, teacher=dataclasses.replace(config.teacher, quantize="int8")
    )
    with pytest.raises(UserError, match=r"\(quantize was none and is int8\)\. Store targets"):
        distill_student.run(rounded, Workdir(tmp_path / "rounded"))
    heavier = dataclasses.replace(named, teacher=dataclasses.replace(config.teacher, weight=2.0))
    with pytest.raises(UserError, match=r"has the weight 2\.0, but 1\.0 in"):
        distill_student.run(heavier, Workdir(tmp_path / "heavier"))
    several = dataclasses.replace(named, teacher=None, teachers={"a": config.teacher})
    with pytest.raises(UserError, match="are of teacher, not of a"):
        distill_student.run(several, Workdir(tmp_path / "several"))
    assert not any((tmp_path / name / "config.json").exists() for name in ("wrong", "heavier"))
    short = dataclasses.replace(named, train=dataclasses.replace(config.train, total_steps=3))
    distill_student.run(short, Workdir(tmp_path / "right"), overview=False)


@pytest.mark.parametrize(
    "section, change, message",
    [
        (None, dict(seed=1), "seed: 0 there, 1 now"),
        ("data", dict(view=ViewConfig(flip=True)), "data.view.flip: False there, True now"),
        ("train", dict(batch_size=16), "train.batch_size: 32 there, 16 now"),
        ("matching", dict(mixup=0.0), "matching.mixup: 1.0 there, 0.0 now"),
        ("matching", dict(per_example=True), "matching.per_example: False there, True now"),
    ],
)
def test_other_views_are_refused(config, stored, tmp_path, section, change, message):
    replay = replay_config(config, stored)
    if section:
        change = {section: dataclasses.replace(getattr(config, section), **change)}
    with pytest.raises(UserError, match="are of other views than this run's") as caught:
        distill_student.run(dataclasses.replace(replay, **change), Workdir(tmp_path))
    assert message in str(caught.value)
    assert not (tmp_path / "config.json").exists()


def test_what_a_loss_compares_must_be_stored(config, stored, tmp_path):
    losses = dataclasses.replace(config.matching.losses, tokens_mse=1.0)
    replay = replay_config(
        config, stored, matching=dataclasses.replace(config.matching, losses=losses)
    )
    with pytest.raises(UserError, match=r"compares tokens, which .* does not hold"):
        distill_student.run(replay, Workdir(tmp_path))


def test_mixtures_that_are_drawn_in_another_way_are_refused(config, stored, tmp_path, monkeypatch):
    """As a new version of JAX might."""
    monkeypatch.setattr(
        "distill.tasks.matching.function_matching.mix",
        lambda *_, **__: mixup(jax.random.key(99), np.zeros((BATCH, 8, 8, 1)), 1.0),
    )
    with pytest.raises(UserError, match="images are no longer mixed as when"):
        distill_student.run(replay_config(config, stored), Workdir(tmp_path))


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"store.top_k": "10"}, "config.store: top_k is 10, of 10 classes"),
        ({"store.epochs": "0.001"}, "0.001 of 1197 images are less than one batch of 32"),
        ({"targets": "elsewhere"}, "targets are stored in --workdir"),
        ({"store.epochs": "-1"}, "config.store.epochs is -1; expected number above 0"),
    ],
)
def test_what_cannot_be_stored_is_refused(config, tmp_path, overrides, message):
    with pytest.raises(UserError) as caught:
        found = resolve(StoreTargetsConfig, to_dict(config), overrides)
        store_targets.run(found, Workdir(tmp_path))
    assert message in str(caught.value)
    assert not (tmp_path / "store.json").exists()


@pytest.mark.parametrize(
    "size, message",
    [
        (1e6, r"logits/teacher of digits image \d+ is as large as .*config\.store\.dtype=float32"),
        (np.nan, r"teacher/cross_entropy of digits image \d+ is not finite"),
    ],
)
def test_answers_that_are_no_numbers_as_stored_are_refused(
    config, tmp_path, monkeypatch, size, message
):
    def load(*args):
        teachers, params = load_teachers(*args)
        params["teacher"]["classifier"]["kernel"] *= size
        return teachers, params

    load_teachers = store_targets.load_teachers
    monkeypatch.setattr(store_targets, "load_teachers", load)
    with pytest.raises(RunFailed, match=message):
        store_targets.run(store_config(config), Workdir(tmp_path))
    assert not list(tmp_path.glob("*.array_record"))


def test_a_run_needs_a_teacher_or_what_one_said():
    tree = load_file(str(REPOSITORY / "configs" / "distill" / "digits.py"))
    with pytest.raises(
        UserError, match="give teacher, several teachers by name, or stored targets"
    ):
        resolve(DistillConfig, tree, {"teacher": "none"})


@pytest.mark.slow
def test_two_processes_store_what_one_does(config, stored, teacher_workdir, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *arguments(
            "distill/digits.py",
            tmp_path / "targets",
            teacher__workdir=teacher_workdir,
            matching__losses__embedding_mse=0.1,
            store__dtype="float32",
            store__examples_per_file=100,
            mesh__fsdp=2,
        ),
        f"--coordinator=127.0.0.1:{port}",
        "--processes=2",
    ]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    with ThreadPoolExecutor(2) as both:
        done = both.map(
            lambda process: run_python(
                "-m", "pipelines.store_targets", *command, f"--process={process}", env=environment
            ),
            range(2),
        )
        for process in done:
            assert process.returncode == 0, process.stderr[-3000:]
    one, two = Store(stored), Store(tmp_path / "targets")
    assert len(one) == len(two)
    for position in range(len(one)):
        there, here = one.read(position), two.read(position)
        for field in one.contents.record.names:
            if field in one.contents.arrays:
                np.testing.assert_allclose(here[field], there[field], rtol=1e-4, atol=1e-6)
            else:
                np.testing.assert_array_equal(here[field], there[field])
