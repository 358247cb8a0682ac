"""Terms of a student's loss: projections, tokens, several teachers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.losses.relational import relational_distance
from distill.nn.embeddings import resample_tokens
from distill.subject import Teacher, combine
from distill.tasks.matching.config import LossWeights, MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.projections import PROJECTIONS, with_projections
from students import vit

BATCH, CLASSES = 5, 4


def network(side=8, patch=4, width=8, classes=CLASSES):
    shape = dict(width=width, depth=1, mlp_dim=8, heads=2, head="gap")
    return vit.build(vit.configure(f"S/{patch}", image_size=side, num_classes=classes, **shape))


def random_params(net, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), jnp.float32), net.abstract_params
    )


def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 16, 16, 3)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
    }


def softmax(z):
    z = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def run(weights, teachers, student=None, **config):
    """The loss of a projected student, its metrics, and the outputs it is made of."""
    losses = LossWeights(**{"kl": 0.0, **weights})
    config = MatchingConfig(losses=losses, mixup=0.0, **config)
    widths = {name: teacher.network.config.width for name, teacher in teachers.items()}
    student = with_projections(student or network(), dict.fromkeys(losses.projected, widths))
    params = random_params(student, 1)
    frozen = {name: random_params(t.network, n) for n, (name, t) in enumerate(teachers.items(), 2)}
    task = FunctionMatching(student, teachers, config)
    loss, metrics = task.loss(params, task.prepare(frozen, batch(), jax.random.key(0)))
    images = batch()["image"]
    outputs = {
        name: t.network.apply(frozen[name], t.network.prepare(images))
        for name, t in teachers.items()
    }
    return float(loss), metrics, params, student.apply(params, student.prepare(images)), outputs


def projected(params, feature, teacher, x):
    maps = params[PROJECTIONS][feature][teacher]
    kernel, bias, x = (np.asarray(a, np.float64) for a in (maps["kernel"], maps["bias"], x))
    return x @ kernel + bias


def test_projections_leave_the_students_own_parameters_as_they_are():
    plain = network()
    widths = {"embedding": {"big": 10, "small": 6}, "tokens": {"big": 12, "small": 6}}
    student = with_projections(plain, widths)
    drawn, alone = (net.init(jax.random.key(3)) for net in (student, plain))
    extra = drawn.pop(PROJECTIONS)
    jax.tree.map(np.testing.assert_array_equal, drawn, alone)
    assert extra["tokens"]["big"]["kernel"].shape == (8, 12)
    assert extra["embedding"]["big"]["kernel"].shape == (8, 10)
    assert extra["embedding"]["small"]["kernel"].shape == (8, 6)
    assert np.ptp(extra["embedding"]["small"]["kernel"]) > 0
    assert with_projections(plain, {}) is plain


def test_embeddings_are_compared_in_the_teachers_space():
    teacher = Teacher(network(width=12, classes=0))
    loss, metrics, params, ours, theirs = run({"embedding_mse": 2.0}, {"t": teacher})
    difference = projected(params, "embedding", "t", ours.embedding) - theirs["t"].embedding
    assert loss == pytest.approx(float(2 * np.mean(difference**2)), rel=1e-4)
    assert "agreement" not in metrics


@pytest.mark.parametrize(("side", "patch"), [(8, 4), (16, 4), (8, 8)])
def test_tokens_of_another_grid_are_resampled_to_the_students(side, patch):
    teacher = Teacher(network(side, patch, width=12))
    loss, _, params, ours, theirs = run({"tokens_cosine": 1.0}, {"t": teacher})
    target = resample_tokens(theirs["t"].tokens, teacher.network.config.grid, (2, 2))
    assert target.shape == (BATCH, 4, 12)
    x, y = projected(params, "tokens", "t", ours.tokens), np.asarray(target, np.float64)
    cosine = np.sum(x * y, -1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    assert loss == pytest.approx(1 - np.mean(cosine), rel=1e-4)


def test_resampled_tokens_stay_in_their_places():
    rows, columns = np.mgrid[:4, :4]
    tokens = np.stack([rows, columns], -1).reshape(1, 16, 2).astype(np.float32)
    halved = np.asarray(resample_tokens(tokens, (4, 4), (2, 2))).reshape(2, 2, 2)
    assert halved[0, 0, 0] < 1 < 2 < halved[1, 0, 0]
    np.testing.assert_allclose(halved[..., 0].T, halved[..., 1], atol=1e-6)
    constant = np.full((1, 16, 2), 3.0, np.float32)
    np.testing.assert_allclose(resample_tokens(constant, (4, 4), (3, 5)), 3.0, rtol=1e-6)


def test_terms_add_up_and_are_logged_each():
    weights = {"kl": 1.0, "labels": 0.5, "logits_l2": 0.1, "embedding_cosine": 2.0}
    loss, metrics, _, ours, theirs = run(weights, {"t": Teacher(network(width=12))})
    assert loss == pytest.approx(sum(w * float(metrics[n]) for n, w in weights.items()), rel=1e-5)
    l2 = np.mean(np.sum(np.square(ours.logits - theirs["t"].logits), -1))
    assert float(metrics["logits_l2"]) == pytest.approx(float(l2), rel=1e-4)
    p = softmax(ours.logits)[np.arange(BATCH), batch()["label"]]
    assert float(metrics["labels"]) == pytest.approx(-np.mean(np.log(p)), rel=1e-4)


def test_relations_of_embeddings_need_no_projection():
    teacher = Teacher(network(width=12, classes=0))
    loss, _, params, ours, theirs = run({"embedding_rkd": 3.0}, {"t": teacher})
    assert PROJECTIONS not in params
    expected = relational_distance(theirs["t"].embedding, ours.embedding)
    assert loss == pytest.approx(3 * float(expected), rel=1e-5)
    assert loss > 1e-3


@pytest.mark.parametrize(("weights", "mean"), [({}, True), ({"embedding_rkd": 1.0}, False)])
def test_only_relations_need_a_whole_batch(weights, mean):
    config = MatchingConfig(losses=LossWeights(**weights))
    task = FunctionMatching(network(), {"t": Teacher(network())}, config)
    assert task.mean_over_examples is mean


def reference_kl(p, q):
    return np.mean(np.sum(p * np.log(p / q), -1))


def test_several_teachers_are_summed_or_averaged_as_they_are_weighted():
    teachers = {"a": Teacher(network(), 1.0), "b": Teacher(network(width=12), 3.0)}
    loss, metrics, _, ours, theirs = run({"kl": 1.0}, teachers)
    q, a, b = (softmax(o.logits) for o in (ours, theirs["a"], theirs["b"]))
    assert loss == pytest.approx(reference_kl(a, q) + 3 * reference_kl(b, q), rel=1e-4)
    average = (a + 3 * b) / 4
    agrees = np.mean(q.argmax(-1) == average.argmax(-1))
    assert float(metrics["agreement"]) == pytest.approx(agrees)
    # Whatever they are called.
    renamed = {"average": teachers["a"], "b": teachers["b"]}
    weighted = {"average": Teacher(network(), 2.0), "b": teachers["b"]}
    once, twice = (run({"kl": 1.0}, named)[0] for named in (renamed, weighted))
    assert twice - once == pytest.approx(reference_kl(a, q), rel=1e-3)
    loss, *_ = run({"kl": 1.0}, teachers, several_teachers="average")
    assert loss == pytest.approx(reference_kl(average, q), rel=1e-4)


def test_averages_are_taken_at_the_temperature():
    a, b = 5 * np.random.default_rng(0).standard_normal((2, 3, CLASSES)).astype(np.float32)
    teachers = {"a": Teacher(network(), 2.0), "b": Teacher(network(), 1.0)}
    found = combine({"a": jnp.asarray(a), "b": jnp.asarray(b)}, teachers, 4.0)
    np.testing.assert_allclose(
        softmax(np.asarray(found) / 4), (2 * softmax(a / 4) + softmax(b / 4)) / 3, rtol=1e-4
    )


def test_a_teachers_own_view_is_what_it_sees():
    task = FunctionMatching(
        network(), {"t": Teacher(network())}, MatchingConfig(mixup=0.0, teacher_view="fixed")
    )
    frozen, seen = {"t": random_params(network(), 2)}, batch()
    other = jnp.asarray(255 - np.asarray(seen["image"]))
    prepared = task.prepare(frozen, seen | {"teacher_image": other}, jax.random.key(0))
    np.testing.assert_array_equal(prepared.images, seen["image"].astype(jnp.float32))
    expected = network().apply(frozen["t"], network().prepare(other)).logits
    np.testing.assert_allclose(prepared.teachers["logits"]["t"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (lambda: LossWeights(kl=-1.0), "kl must be a number from 0 to"),
        (lambda: LossWeights(kl=0.0), "nothing is learned"),
        (lambda: MatchingConfig(teacher_view="fixed"), "set mixup=0 and cutmix=0"),
        (lambda: MatchingConfig(teacher_view="own"), "teacher_view must be one of"),
        (
            lambda: MatchingConfig(several_teachers="average", losses=LossWeights(logits_l2=1.0)),
            "logits_l2 cannot match",
        ),
        (lambda: MatchingConfig().check_teacher("it", 0, 10), "it has no classifier and the"),
        (lambda: MatchingConfig().check_teacher("it", 0, 0), "and the student no classifier"),
        (
            lambda: MatchingConfig().check_teacher("it", 5, 10),
            "it has 5 classes and the student 10",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        choice()


def test_embeddings_need_no_classifier():
    losses = LossWeights(kl=0.0, embedding_cosine=1.0)
    MatchingConfig(losses=losses).check_teacher("it", 0, 10)
