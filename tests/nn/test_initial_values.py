"""What the parameters are before the first step."""

import functools
import math

import jax
import numpy as np
import pytest

from students import vit
from teachers import vit_22b

WIDTH, MLP, HEADS, DEPTH = 64, 256, 4, 4


def build(**choices):
    shape = dict(width=WIDTH, mlp_dim=MLP, heads=HEADS, depth=DEPTH, image_size=64, num_classes=10)
    return vit.build(vit.configure("S/4", **(shape | choices)))


def initial(network, *path, seed=0):
    """The initial values below `path`. Compiling takes all the time, hence only those."""

    def init(key):
        return functools.reduce(lambda tree, name: tree[name], path, network.init(key))

    fast = {"xla_backend_optimization_level": 0}
    return jax.tree.map(np.asarray, jax.jit(init, compiler_options=fast)(jax.random.key(seed)))


@pytest.fixture(scope="module")
def params():
    return initial(build(classifier_bias=-6.9))


def test_classifier_starts_at_zero_with_the_configured_bias(params):
    np.testing.assert_array_equal(params["classifier"]["kernel"], np.zeros((WIDTH, 10)))
    np.testing.assert_array_equal(params["classifier"]["bias"], np.full(10, -6.9, np.float32))


def test_classifier_bias_is_zero_unless_configured():
    np.testing.assert_array_equal(initial(build(), "classifier", "bias"), np.zeros(10))


def test_mlp_biases_are_tiny_but_not_zero(params):
    for mlp in (params["encoder"]["blocks"]["mlp"], params["head"]["mlp"]):
        for name in ("input", "output"):
            bias = mlp[name]["bias"]
            assert np.std(bias) == pytest.approx(1e-6, rel=0.35)
            assert np.abs(bias).max() < 1e-5


def test_attention_biases_start_at_zero_and_norms_at_identity(params):
    blocks = params["encoder"]["blocks"]
    for name in ("query", "key", "value", "out"):
        assert not blocks["attention"][name]["bias"].any()
    for norm in (blocks["attention_norm"], blocks["mlp_norm"], params["encoder"]["norm"]):
        assert (norm["scale"] == 1).all()
        assert not norm["bias"].any()


def test_position_embedding_has_a_deviation_of_one_over_root_width(params):
    table = params["position"]["table"]
    assert table.shape == (16, 16, WIDTH)
    assert np.std(table) == pytest.approx(1 / math.sqrt(WIDTH), rel=0.05)
    assert abs(np.mean(table)) < 0.1 / math.sqrt(WIDTH)


@pytest.mark.parametrize(
    ("path", "fan_in", "fan_out"),
    [
        (("attention", "query"), WIDTH, WIDTH),
        (("attention", "key"), WIDTH, WIDTH),
        (("attention", "value"), WIDTH, WIDTH),
        (("attention", "out"), WIDTH, WIDTH),
        (("mlp", "input"), WIDTH, MLP),
        (("mlp", "output"), MLP, WIDTH),
    ],
)
def test_kernels_are_xavier_uniform_over_flattened_fans(params, path, fan_in, fan_out):
    """Heads split an axis but are no receptive field, which would shrink the bound."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    for tree in (params["encoder"]["blocks"], params["head"]):
        kernel = tree[path[0]][path[1]]["kernel"]
        assert np.abs(kernel).max() <= bound
        assert np.abs(kernel).max() > 0.98 * bound
        assert np.std(kernel) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_probe_is_xavier_uniform(params):
    probe = params["head"]["probe"]
    bound = math.sqrt(6 / (1 + WIDTH))
    assert probe.shape == (1, 1, WIDTH)
    assert 0.9 * bound < np.abs(probe).max() <= bound


def test_every_layer_of_the_stack_is_drawn_on_its_own(params):
    for path, leaf in jax.tree.leaves_with_path(params["encoder"]["blocks"]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert leaf.shape[0] == DEPTH, name
        if name.endswith("kernel") or ("mlp/" in name and name.endswith("bias")):
            for one in range(DEPTH):
                for other in range(one):
                    assert np.abs(leaf[one] - leaf[other]).max() > 0, name


def test_no_two_kernels_of_a_layer_are_drawn_alike(params):
    attention = params["encoder"]["blocks"]["attention"]
    kernels = [attention[name]["kernel"].ravel() for name in ("query", "key", "value", "out")]
    for one in range(4):
        for other in range(one):
            assert abs(np.corrcoef(kernels[one], kernels[other])[0, 1]) < 0.1


def test_layers_of_the_parallel_block_start_like_those_of_the_sequential_one():
    config = vit_22b.configure(
        "22B/4", width=WIDTH, mlp_dim=MLP, heads=HEADS, depth=2, image_size=8, num_classes=10
    )
    blocks = initial(vit_22b.build(config), "encoder", "blocks")
    for name, fans in {
        "query": 2 * WIDTH,
        "key": 2 * WIDTH,
        "value": 2 * WIDTH,
        "attention_out": 2 * WIDTH,
        "mlp_in": WIDTH + MLP,
        "mlp_out": WIDTH + MLP,
    }.items():
        kernel = blocks[name]["kernel"]
        assert 0.98 < np.abs(kernel).max() / math.sqrt(6 / fans) <= 1, name
        assert np.abs(kernel[0] - kernel[1]).max() > 0, name
    for norm in (blocks["norm"], blocks["qk_norm"]["query"], blocks["qk_norm"]["key"]):
        assert (norm["scale"] == 1).all()


def test_initial_values_depend_on_the_key_and_on_nothing_else():
    path = ("encoder", "blocks", "mlp", "input", "kernel")
    first, again, other = (initial(build(depth=2), *path, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_no_two_registers_begin_the_same():
    """Nothing else tells them apart: they would get the same gradient, and stay one token."""
    registers = initial(build(registers=3), "registers")[0]
    assert len(np.unique(registers, axis=0)) == 3
    assert 0 < np.abs(registers).max() < 1e-5
