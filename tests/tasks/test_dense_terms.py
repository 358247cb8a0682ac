"""Terms of tokens and layers in a student's loss: which layers, in whose space, standardised."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.nn import LayerTokens, VisionNetwork, ViTOutput
from distill.nn.embeddings import resample_tokens
from distill.subject import Teacher
from distill.tasks.matching.config import LossWeights, MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching, projected
from distill.tasks.matching.layers import check_layers_there
from distill.tasks.matching.projections import PROJECTIONS
from distill.tasks.matching.standardise import STATISTICS
from distill.train.state import TrainState
from distill.train.step import Learner, make_train_step
from students import vit

BATCH = 4
PAIRS = ((1, 2), (3, 4), (1, 4))


def network(side=8, patch=4, width=8, depth=3):
    shape = dict(width=width, depth=depth, mlp_dim=8, heads=2, head="cls", num_classes=0)
    return vit.build(vit.configure(f"S/{patch}", image_size=side, **shape))


def random_params(net, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), jnp.float32), net.abstract_params
    )


def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 16, 16, 3)), jnp.uint8),
        "label": jnp.full(BATCH, -1, jnp.int32),
    }


def matching(weights, **config):
    return MatchingConfig(losses=LossWeights(**{"kl": 0.0, **weights}), mixup=0.0, **config)


def make_task(config, teachers):
    return FunctionMatching(projected(network(), teachers, config), teachers, config)


def random_statistics(task):
    rng = np.random.default_rng(7)
    return {
        STATISTICS: jax.tree.map(
            lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32),
            task.abstract_statistics,
        )
    }


def run(weights, teachers, **config):
    """The loss, and in float64 what it is made of: the student's parameters and all tokens."""
    config = matching(weights, **config)
    task = make_task(config, teachers)
    params = random_params(task.student, 1)
    frozen = {name: random_params(t.network, n) for n, (name, t) in enumerate(teachers.items(), 2)}
    given = frozen | (random_statistics(task) if config.standardise != "none" else {})
    loss, metrics = task.loss(params, task.prepare(given, batch(), jax.random.key(0)))
    return float(loss), metrics, params, given, frozen


def tokens_after(net, params, layer, *, normed):
    """Patch tokens after a layer, from a network that ends there."""
    cut = dict(params, encoder=dict(params["encoder"]))
    cut["encoder"]["blocks"] = jax.tree.map(lambda x: x[:layer], params["encoder"]["blocks"])
    cut.pop(PROJECTIONS, None)
    config = dataclasses.replace(net.config, depth=layer)
    short = vit.build(config)

    def of(module, images):
        if not normed:
            module.encoder.norm = lambda x: x
        return module(images).tokens

    return short.apply(cut, short.prepare(batch()["image"]), method=of)


def through(maps, x):
    kernel, bias, x = (np.asarray(a, np.float64) for a in (maps["kernel"], maps["bias"], x))
    return x @ kernel + bias


def cosines(x):
    x = np.asarray(x, np.float64)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.einsum("btd,bud->btu", x, x)


@pytest.mark.parametrize("normed", [True, False])
def test_layers_are_compared_pair_by_pair_in_the_teachers_space(normed):
    """Layers of the student may be compared with several of the teacher's, in any order."""
    teacher = Teacher(network(width=12, depth=5))
    weights = {"layers_mse": 2.0, "layers_gram": 3.0}
    loss, metrics, params, _, frozen = run(
        weights, {"t": teacher}, layers=PAIRS, layers_normed=normed
    )
    mse, gram = [], []
    for ours, theirs in PAIRS:
        x = tokens_after(network(), params, ours, normed=normed)
        y = np.asarray(tokens_after(teacher.network, frozen["t"], theirs, normed=normed), float)
        mapped = through(params[PROJECTIONS]["layers"]["t"][f"{ours}_{theirs}"], x)
        mse.append(np.mean((mapped - y) ** 2))
        gram.append(np.mean((cosines(x) - cosines(y)) ** 2))
    assert float(metrics["layers_mse"]) == pytest.approx(np.mean(mse), rel=1e-4)
    assert float(metrics["layers_gram"]) == pytest.approx(np.mean(gram), rel=1e-4)
    assert loss == pytest.approx(2 * np.mean(mse) + 3 * np.mean(gram), rel=1e-4)


def test_the_last_layer_normed_is_what_terms_of_tokens_compare():
    teacher = {"t": Teacher(network(width=12, depth=5))}
    layers, *_ = run({"layers_gram": 1.0}, teacher, layers=((3, 5),))
    tokens, *_ = run({"tokens_gram": 1.0}, teacher)
    assert layers == pytest.approx(tokens, rel=1e-5)


def test_teachers_of_other_depths_and_grids_have_pairs_of_their_own():
    teachers = {
        "a": Teacher(network(width=12, depth=5)),
        "b": Teacher(network(side=16, width=6, depth=2), weight=0.5),
    }
    of = {"b": ((2, 1),)}
    loss, _, params, _, frozen = run(
        {"layers_mse": 1.0}, teachers, layers=((1, 2), (3, 5)), layers_of=of
    )
    expected = 0.0
    for name, pairs in (("a", ((1, 2), (3, 5))), ("b", of["b"])):
        net = teachers[name].network
        for ours, theirs in pairs:
            y = tokens_after(net, frozen[name], theirs, normed=True)
            y = np.asarray(resample_tokens(y, net.config.grid, (2, 2)), np.float64)
            x = tokens_after(network(), params, ours, normed=True)
            x = through(params[PROJECTIONS]["layers"][name][f"{ours}_{theirs}"], x)
            expected += teachers[name].weight * np.mean((x - y) ** 2) / len(pairs)
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["standard", "phi_s"])
def test_projected_terms_compare_with_what_is_standardised_and_others_with_what_was_said(kind):
    teacher = {"t": Teacher(network(width=12, depth=5))}
    weights = {"tokens_smooth_l1": 1.0, "tokens_gram": 1.0, "embedding_rkd": 1.0, "layers_mse": 1.0}
    _, plain, *_ = run(weights, teacher, layers=PAIRS)
    _, metrics, params, given, frozen = run(weights, teacher, layers=PAIRS, standardise=kind)
    for name in ("tokens_gram", "embedding_rkd"):
        assert float(metrics[name]) == pytest.approx(float(plain[name]), rel=1e-5)

    def standardised(y, one):
        y = np.asarray(y, np.float64) - np.asarray(one["mean"])
        return y * one["scale"] if kind == "standard" else y @ np.asarray(one["rotation"], float)

    statistics = given[STATISTICS]
    assert statistics.keys() == {"tokens", "layers"}
    net = network()
    y = standardised(
        tokens_after(teacher["t"].network, frozen["t"], 5, normed=True), statistics["tokens"]["t"]
    )
    x = tokens_after(net, params, 3, normed=True)
    sizes = np.abs(through(params[PROJECTIONS]["tokens"]["t"], x) - y)
    huber = np.where(sizes < 1, sizes**2 / 2, sizes - 0.5)
    assert float(metrics["tokens_smooth_l1"]) == pytest.approx(huber.mean(), rel=1e-4)
    mse = []
    for ours, theirs in PAIRS:
        # The statistics are those of the teacher's layers 2 and 4.
        one = {k: v[(2, 4).index(theirs)] for k, v in statistics["layers"]["t"].items()}
        y = standardised(tokens_after(teacher["t"].network, frozen["t"], theirs, normed=True), one)
        x = tokens_after(net, params, ours, normed=True)
        x = through(params[PROJECTIONS]["layers"]["t"][f"{ours}_{theirs}"], x)
        mse.append(np.mean((x - y) ** 2))
    assert float(metrics["layers_mse"]) == pytest.approx(np.mean(mse), rel=1e-4)


@dataclasses.dataclass(frozen=True)
class WithoutLayers(VisionNetwork):
    """Refuses to look at layers."""

    def with_layers(self, *_, **__):
        raise AssertionError("layers were computed")


def test_layers_without_a_term_cost_nothing_and_change_nothing():
    plain = network()
    guarded = WithoutLayers(plain.config, plain.build)
    config = matching({"tokens_mse": 1.0}, layers=((1, 2),), layers_of={"nobody": ((9, 9),)})
    teachers = {"t": Teacher(guarded)}
    check_layers_there(config, guarded, teachers)
    student = projected(guarded, teachers, config)
    assert student.abstract_params[PROJECTIONS].keys() == {"tokens"}
    task = FunctionMatching(student, teachers, config)
    prepared = task.prepare({"t": random_params(plain, 2)}, batch(), jax.random.key(0))
    assert prepared.teachers.keys() == {"tokens"} and prepared.statistics is None
    task.loss(random_params(student, 1), prepared)


@jax.custom_vjp
def not_differentiable(x):
    return x


def _refuse(*_):
    raise AssertionError("the teacher was differentiated")


not_differentiable.defvjp(_refuse, _refuse)


class GuardedTeacher:
    """Cannot be differentiated; its tokens are the pixels times its parameters."""

    config = network(width=12).config
    tower = config

    def prepare(self, images):
        return images / 127.5 - 1

    def with_layers(self, params, images, layers, *, normed):
        tokens = not_differentiable(images[:, ::8, ::8].reshape(len(images), 4, 3) @ params)
        patches = jnp.stack([tokens * layer for layer in layers], 1).reshape(
            -1, len(layers), 2, 2, 12
        )
        output = ViTOutput(tokens[:, 0, :0], jnp.mean(tokens, 1), tokens)
        return output, LayerTokens(patches, None, None)


@pytest.mark.parametrize("kind", ["none", "phi_s"])
def test_microbatches_give_the_update_of_the_whole_batch_and_no_gradient_to_the_teacher(kind):
    weights = {"tokens_cosine": 0.9, "tokens_gram": 1.0, "layers_smooth_l1": 1.0}
    config = matching(weights, layers=((1, 1), (2, 3)), standardise=kind)
    task = make_task(config, {"t": Teacher(GuardedTeacher())})
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, 12)), jnp.float32)
    frozen = {"t": kernel} | (random_statistics(task) if kind != "none" else {})
    found = []
    for microbatches in (1, 2):
        params, optimizer = random_params(task.student, 1), optax.sgd(0.1)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        step = make_train_step(Learner(task, optimizer), 0, microbatches=microbatches)
        state, metrics = step(state, frozen, batch())
        assert float(metrics["grad_norm"]) > 0.01
        found.append((state.params, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6, rtol=1e-5), *found)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(losses=LossWeights(layers_mse=1.0)), r"layers_mse\), and layers names none"),
        (dict(layers=((0, 1),)), "layers must be a whole number from 1 to 1,024, not 0"),
        (dict(layers=((1, 2), (1, 2))), "layers must name each once"),
        (
            dict(layers_of={"a": ((1, -3),)}),
            "layers_of must be a whole number from 1 to",
        ),
        (dict(standardise="phi"), "standardise must be one of 'none', 'standard', 'phi_s'"),
        (dict(standardise_batches=0), "standardise_batches must be a whole number from 1 to"),
    ],
)
def test_what_cannot_be_compared_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        MatchingConfig(**config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(layers=((4, 1),)), "the student has 3 layers, and layers names layer 4"),
        (dict(layers=((1, 6),)), "teacher t has 5 layers, and layers names layer 6"),
        (dict(layers=((1, 1),), layers_of={"b": ((1, 1),)}), "layers_of names b; teachers are t"),
        (dict(layers_of={"t": ()}), "nothing names layers of teacher t; give layers_of.t"),
    ],
)
def test_layers_that_a_model_does_not_have_are_refused(config, message):
    config = matching({"layers_mse": 1.0}, **config)
    with pytest.raises(ValueError, match=message):
        check_layers_there(config, network(), {"t": Teacher(network(depth=5))})
