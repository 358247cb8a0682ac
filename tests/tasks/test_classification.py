"""Training on labels, of images with one class each and with several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.errors import UserError
from distill.mixing import mixup
from distill.tasks.classification import Classification, ClassificationConfig
from distill.tasks.matching.config import LossWeights, MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching, Teacher
from students import vit

BATCH, CLASSES = 6, 5


@pytest.fixture(scope="module")
def network():
    shape = dict(width=8, depth=1, mlp_dim=8, heads=2, head="gap")
    return vit.build(vit.configure("S/4", image_size=8, num_classes=CLASSES, **shape))


@pytest.fixture(scope="module")
def params(network):
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape), jnp.float32),
        network.abstract_params,
    )


def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32),
    }


def with_several_classes():
    classes = np.random.default_rng(2).integers(0, 2, (BATCH, CLASSES)).astype(np.float32)
    # None at all, and all of them.
    classes[0], classes[1] = 0, 1
    return batch() | {"label": jnp.full(BATCH, -1, jnp.int32), "classes": jnp.asarray(classes)}


def run(network, params, shown, **config):
    task = Classification(network, ClassificationConfig(**config))
    prepared = task.prepare(None, shown, jax.random.key(3))
    loss, metrics = task.loss(params, prepared)
    return float(loss), metrics


def logits(network, params, images):
    return np.asarray(network.apply(params, network.prepare(images)).logits, np.float64)


def sigmoid_loss(z, y):
    """−Σ_c [y·log σ(z) + (1 − y)·log(1 − σ(z))], the mean over images."""
    return -np.mean(np.sum(y * -np.log1p(np.exp(-z)) + (1 - y) * -np.log1p(np.exp(z)), -1))


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("several", [False, True])
def test_the_loss_is_the_sigmoid_cross_entropy_of_mixed_targets(network, params, several, alpha):
    shown = with_several_classes() if several else batch()
    mixed = mixup(jax.random.key(3), shown["image"], alpha)
    share = np.asarray(mixed.weights, np.float64)[:, None]
    own = np.asarray(shown["classes"]) if several else np.eye(CLASSES)[shown["label"]]
    targets = share * own + (1 - share) * np.roll(own, 1, axis=0)
    assert (targets > 0).sum(-1).max() > 2 or not several
    z = logits(network, params, mixed.images)
    loss, metrics = run(network, params, shown, mixup=alpha)
    np.testing.assert_allclose(loss, sigmoid_loss(z, targets), rtol=1e-5)
    if several:
        assert metrics == {}
    else:
        np.testing.assert_allclose(metrics["accuracy"], np.mean(z.argmax(-1) == targets.argmax(-1)))


def test_classes_that_are_one_each_give_the_loss_of_labels(network, params):
    shown = batch()
    one_hot = jnp.asarray(np.eye(CLASSES, dtype=np.float32)[shown["label"]])
    labels, _ = run(network, params, shown)
    classes, _ = run(network, params, shown | {"classes": one_hot})
    np.testing.assert_allclose(classes, labels, rtol=1e-6)


def test_a_loss_over_one_class_refuses_images_with_several(network, params):
    with pytest.raises(UserError, match=r"'softmax'.*type --config\.loss\.kind=sigmoid"):
        run(network, params, with_several_classes(), kind="softmax")
    config = MatchingConfig(losses=LossWeights(labels=0.5))
    task = FunctionMatching(network, {"teacher": Teacher(network)}, config)
    with pytest.raises(UserError, match=r"type --config\.matching\.losses\.labels=0"):
        task.prepare({"teacher": params}, with_several_classes(), jax.random.key(0))
