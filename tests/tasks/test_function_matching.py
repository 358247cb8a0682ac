"""Function matching: one view for both, and a teacher outside the gradient."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from distill.evaluate.distillation import distillation_metrics
from distill.nn import Network, ViTOutput
from distill.subject import Teacher
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.train.state import TrainState
from distill.train.step import Learner, make_train_step
from students import vit

BATCH, VIEW, CLASSES = 5, 16, 4


def network(side):
    return vit.build(
        vit.configure(
            "S/4",
            width=8,
            depth=1,
            mlp_dim=8,
            heads=2,
            image_size=side,
            num_classes=CLASSES,
            head="gap",
        )
    )


def random_params(net, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32), net.abstract_params
    )


def random_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, VIEW, VIEW, 3)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
    }


@dataclasses.dataclass
class Recorder:
    """Remembers what it was fed; its parameters are its logits."""

    network: Network
    seen: list = dataclasses.field(default_factory=list)

    @property
    def config(self):
        return self.network.config

    def prepare(self, images):
        return self.network.prepare(images)

    def apply(self, params, images):
        self.seen.append(np.asarray(images))
        return ViTOutput(logits=params, embedding=params, tokens=None)


def matching(student, teacher, config):
    """The task with a single teacher."""
    return FunctionMatching(student, {"teacher": Teacher(teacher)}, config)


def fed(config, *, student_side=VIEW, teacher_side=VIEW, key=0):
    """What student and teacher are fed from one batch."""
    student, teacher = (
        Recorder(network(student_side)),
        Recorder(network(teacher_side)),
    )
    task = matching(student, teacher, config)
    logits = jnp.zeros((BATCH, CLASSES))
    task.loss(logits, task.prepare({"teacher": logits}, random_batch(), jax.random.key(key)))
    [student_input], [teacher_input] = student.seen, teacher.seen
    return student_input, teacher_input


def pil_resize(images, side):
    def resize(channel):
        pixels = Image.fromarray(np.ascontiguousarray(channel))
        return np.asarray(pixels.resize((side, side), Image.Resampling.BILINEAR))

    return np.stack([np.stack([resize(x[..., c]) for c in range(3)], -1) for x in images])


@pytest.mark.parametrize("per_example", [False, True])
def test_views_are_mixed_before_they_are_fed(per_example):
    """Each input is λ·x + (1 − λ)·(the one before) with a λ in [1/2, 1]."""
    student, teacher = fed(MatchingConfig(per_example=per_example))
    images = np.asarray(random_batch()["image"], np.float64)
    weights = []
    for i in range(BATCH):
        mixed, partner = (teacher[i] + 1) * 127.5, images[i - 1]
        difference = images[i] - partner
        weights.append(np.sum((mixed - partner) * difference) / np.sum(difference**2))
        np.testing.assert_allclose(mixed, partner + weights[-1] * difference, atol=1e-3)
    assert 0.5 <= min(weights) <= max(weights) < 0.999
    assert (np.ptp(weights) > 1e-3) == per_example
    np.testing.assert_array_equal(student, teacher)


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 16), (16, 8), (24, 12)])
def test_teacher_and_student_see_the_same_view_at_their_own_resolution(student_side, teacher_side):
    student, teacher = fed(MatchingConfig(), student_side=student_side, teacher_side=teacher_side)
    mixed, _ = fed(MatchingConfig())
    assert student.shape == (BATCH, student_side, student_side, 3)
    assert teacher.shape == (BATCH, teacher_side, teacher_side, 3)
    np.testing.assert_allclose(student, pil_resize(mixed, student_side), atol=1e-4)
    np.testing.assert_allclose(teacher, pil_resize(mixed, teacher_side), atol=1e-4)


def test_same_key_draws_the_same_mixture_and_another_does_not():
    first, again, other = (fed(MatchingConfig(), key=key)[1] for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


def test_without_mixup_both_see_the_clean_view():
    clean = np.asarray(random_batch()["image"]) / 127.5 - 1
    for seen in fed(MatchingConfig(mixup=0.0)):
        np.testing.assert_allclose(seen, clean, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_loss_is_the_mean_divergence_at_the_configured_temperature(temperature):
    student, teacher = Recorder(network(VIEW)), Recorder(network(VIEW))
    task = matching(student, teacher, MatchingConfig(temperature=temperature))
    s, t = 3 * np.random.default_rng(0).standard_normal((2, BATCH, CLASSES)).astype(np.float32)
    prepared = task.prepare({"teacher": jnp.asarray(t)}, random_batch(), jax.random.key(0))
    loss, metrics = task.loss(jnp.asarray(s), prepared)

    p, q = (np.exp(z.astype(np.float64) / temperature) for z in (t, s))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), -1))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["agreement"]) == pytest.approx(np.mean(s.argmax(-1) == t.argmax(-1)))


def test_student_with_the_teachers_parameters_has_no_loss():
    net = network(VIEW)
    task, params = matching(net, net, MatchingConfig()), random_params(net, 1)
    prepared = jax.jit(task.prepare)({"teacher": params}, random_batch(), jax.random.key(0))
    loss, metrics = jax.jit(task.loss)(params, prepared)
    assert float(loss) == pytest.approx(0, abs=1e-5)
    assert float(metrics["agreement"]) == 1.0


def test_labels_reach_only_the_logs():
    recorder = Recorder(network(VIEW))
    task = matching(recorder, recorder, MatchingConfig())
    s, t = jnp.asarray(np.random.default_rng(0).standard_normal((2, BATCH, CLASSES)), jnp.float32)
    results = []
    for label in range(CLASSES):
        batch = random_batch() | {"label": jnp.full(BATCH, label, jnp.int32)}
        results.append(task.loss(s, task.prepare({"teacher": t}, batch, jax.random.key(0))))
    assert len({float(loss) for loss, _ in results}) == 1
    accuracies = [float(metrics["accuracy"]) for _, metrics in results]
    assert sum(accuracies) == pytest.approx(1.0)


@jax.custom_vjp
def not_differentiable(x):
    return x


def _refuse(*_):
    raise AssertionError("the teacher was differentiated")


not_differentiable.defvjp(_refuse, _refuse)


class GuardedTeacher:
    """A linear teacher that cannot be differentiated and counts how often it is traced."""

    config = network(8).config

    def __init__(self):
        self.calls = 0

    def prepare(self, images):
        return images / 127.5 - 1

    def apply(self, params, images):
        self.calls += 1
        pooled = jnp.mean(images, axis=(1, 2))
        return ViTOutput(not_differentiable(pooled @ params), pooled, pooled[:, None])


class Run(NamedTuple):
    calls: int
    losses: list
    gradient_norms: list
    classifier_before: np.ndarray
    classifier_after: np.ndarray
    frozen_before: np.ndarray
    frozen_after: np.ndarray


@pytest.fixture(scope="module")
def run():
    """Thirty training steps of a student under a guarded teacher."""
    student, teacher = network(8), GuardedTeacher()
    frozen = jnp.asarray(30 * np.random.default_rng(0).standard_normal((3, CLASSES)), jnp.float32)
    task, optimizer = matching(student, teacher, MatchingConfig()), optax.adam(1e-2)
    params = random_params(student, 1)
    classifier_before, frozen_before = np.array(params["classifier"]["kernel"]), np.array(frozen)
    state = TrainState(jnp.int32(0), params, optimizer.init(params))
    step, history = make_train_step(Learner(task, optimizer), seed=0), []
    for _ in range(30):
        state, metrics = step(state, {"teacher": frozen}, random_batch())
        history.append(metrics)
    return Run(
        calls=teacher.calls,
        losses=[float(m["loss"]) for m in history],
        gradient_norms=[float(m["grad_norm"]) for m in history],
        classifier_before=classifier_before,
        classifier_after=np.array(state.params["classifier"]["kernel"]),
        frozen_before=frozen_before,
        frozen_after=np.array(frozen),
    )


def test_guarded_teacher_refuses_gradients():
    """Or else the next test would show nothing."""
    images = jnp.ones((1, 2, 2, 3))
    with pytest.raises(AssertionError, match="differentiated"):
        jax.grad(lambda p: jnp.sum(GuardedTeacher().apply(p, images).logits))(jnp.ones((3, 2)))


def test_training_step_never_differentiates_the_teacher(run):
    assert run.calls == 1
    assert min(run.gradient_norms) > 0
    assert np.abs(run.classifier_after - run.classifier_before).max() > 1e-3
    np.testing.assert_array_equal(run.frozen_after, run.frozen_before)


def test_training_brings_the_student_closer_to_the_teacher(run):
    assert np.mean(run.losses[-5:]) < 0.5 * np.mean(run.losses[:3])


def test_loss_does_not_run_the_teacher():
    """The loss and its gradient are functions of the student and of prepared targets alone."""
    student, teacher = network(8), GuardedTeacher()
    task = matching(student, teacher, MatchingConfig())
    prepared = jax.eval_shape(
        task.prepare, {"teacher": jnp.ones((3, CLASSES))}, random_batch(), jax.random.key(0)
    )
    teacher.calls = 0
    gradient, _ = jax.eval_shape(
        jax.grad(task.loss, has_aux=True), student.abstract_params, prepared
    )
    assert teacher.calls == 0
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, student.abstract_params)


def test_metrics_compare_the_student_with_labels_and_teacher():
    student, teacher = Recorder(network(8)), Recorder(network(VIEW))
    s, t = np.random.default_rng(0).standard_normal((2, BATCH, CLASSES)).astype(np.float32)
    batch = random_batch()
    batch |= {"mask": np.arange(BATCH) != 1}
    metrics = distillation_metrics(student, {"teacher": Teacher(teacher)})(s, {"teacher": t}, batch)
    p, q = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (t, s))
    expected = {
        "agreement": s.argmax(-1) == t.argmax(-1),
        "accuracy": s.argmax(-1) == batch["label"],
        "kl": np.sum(p * np.log(p / q), -1),
    }
    for name, values in expected.items():
        assert metrics[name].value() == pytest.approx(float(values[batch["mask"]].mean()), rel=1e-4)
    [student_input], [teacher_input] = student.seen, teacher.seen
    assert (student_input.shape[1], teacher_input.shape[1]) == (8, VIEW)


def test_classes_compete_for_labels_alone():
    student, teacher = network(8), network(VIEW)
    student, teacher = Recorder(student), Recorder(teacher)
    s, t = np.random.default_rng(0).standard_normal((2, BATCH, CLASSES)).astype(np.float32)
    batch = random_batch() | {"mask": np.ones(BATCH, bool), "label": np.full(BATCH, 2)}
    found = [
        distillation_metrics(student, {"teacher": Teacher(teacher)}, among=among)(
            s, {"teacher": t}, batch
        )
        for among in (None, (2,))
    ]
    assert found[0]["accuracy"].value() < found[1]["accuracy"].value() == 1
    for name in ("agreement", "top5_agreement", "kl"):
        assert found[0][name].value() == found[1][name].value()


def test_images_without_a_label_do_not_count_in_the_training_accuracy():
    student, teacher = Recorder(network(8)), Recorder(network(VIEW))
    task, batch = matching(student, teacher, MatchingConfig()), random_batch()
    s = np.random.default_rng(0).standard_normal((BATCH, CLASSES)).astype(np.float32)
    right = s.argmax(-1)
    label = np.array([right[0], -1, (right[2] + 1) % CLASSES, -1, right[4]])

    def accuracy(label):
        prepared = task.prepare({"teacher": s}, batch | {"label": label}, jax.random.key(0))
        return float(task.loss(s, prepared)[1]["accuracy"])

    assert BATCH == 5 and accuracy(label) == pytest.approx(2 / 3)
    assert accuracy(right) == 1
    assert np.isnan(accuracy(np.full(BATCH, -1)))


@pytest.mark.parametrize("choice", [{"temperature": 0.0}, {"mixup": -1.0}])
def test_impossible_matching_is_refused(choice):
    with pytest.raises(ValueError, match=next(iter(choice))):
        MatchingConfig(**choice)
