"""What published models have and this project's own have not, each against its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distill.nn import encoder_flops
from distill.nn.embeddings import rotary2d, rotate
from distill.nn.layers import ACTIVATIONS, Mlp
from students import vit
from teachers import vit_22b

SHAPE = dict(width=24, depth=2, mlp_dim=40, heads=3, image_size=16, num_classes=5)


def params_of(network, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) * 0.3,
        network.abstract_params,
    )


def test_activations_are_their_equations():
    from scipy.special import erf

    x = np.linspace(-4, 4, 33)
    expected = {
        "gelu_tanh": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "gelu": 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "silu": x / (1 + np.exp(-x)),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, wanted in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](jnp.float32(x)), wanted, atol=1e-6)


def test_a_gated_mlp_multiplies_by_the_activated_gate():
    rngs = nnx.Rngs(params=jax.random.key(0))
    mlp = Mlp(6, 10, activation="silu", gated=True, dtype=jnp.float32, rngs=rngs)
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)

    def apply(linear, x):
        return x @ np.asarray(linear.kernel[...], np.float64) + np.asarray(linear.bias[...])

    gate = apply(mlp.gate, x)
    expected = apply(mlp.output, gate / (1 + np.exp(-gate)) * apply(mlp.input, x))
    np.testing.assert_allclose(mlp(x), expected, atol=1e-5)


def test_rotated_products_depend_on_the_offset_alone():
    rotation = rotary2d((4, 4), 8)
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.standard_normal((1, 1, 1, 8)), jnp.float32) for _ in range(2))
    rotated = [rotate(jnp.tile(x, (1, 16, 1, 1)), rotation)[0, :, 0] for x in (q, k)]
    products = np.asarray(rotated[0] @ rotated[1].T).reshape(4, 4, 4, 4)
    np.testing.assert_allclose(products[:3, :3, :3, :3], products[1:, 1:, 1:, 1:], atol=1e-5)
    assert np.ptp(products) > 0.1
    np.testing.assert_allclose(products[1, 2, 1, 2], np.vdot(q, k), atol=1e-5)


def test_tokens_in_front_are_not_turned():
    x = jnp.ones((1, 3 + 4, 1, 8))
    turned = rotate(x, rotary2d((2, 2), 8))
    np.testing.assert_array_equal(turned[:, :3], x[:, :3])
    assert np.abs(turned[:, 3:] - x[:, 3:]).max() > 0.1


def test_branches_scaled_by_nothing_change_nothing():
    network = vit.build(vit.configure("S/4", **SHAPE, head="gap", layer_scale=True))
    params = params_of(network)
    blocks = params["encoder"]["blocks"]
    for name in ("attention_scale", "mlp_scale"):
        assert blocks[name]["scale"].shape == (2, 24)
        blocks[name]["scale"] = np.zeros((2, 24), np.float32)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    found = network.apply(params, images).tokens
    blocks["mlp"]["input"]["kernel"] = blocks["mlp"]["input"]["kernel"] + 1
    np.testing.assert_array_equal(network.apply(params, images).tokens, found)


@pytest.mark.parametrize("head", ["cls", "gap", "map"])
def test_registers_are_seen_by_patches_and_dropped(head):
    config = vit.configure("S/4", **SHAPE, head=head, registers=2)
    network = vit.build(config)
    params = params_of(network)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    found = network.apply(params, images)
    assert found.tokens.shape == (2, 16, 24)
    other = network.apply(params | {"registers": -params["registers"]}, images)
    assert np.abs(other.tokens - found.tokens).max() > 1e-3
    if head == "gap":
        np.testing.assert_allclose(found.embedding, found.tokens.mean(1), atol=1e-6)
    assert config.prefix == (3 if head == "cls" else 2)


def test_registers_and_gates_count_as_operations():
    plain = vit.configure("S/4", **SHAPE, head="gap")
    gated = vit.configure("S/4", **SHAPE, head="gap", gated=True, registers=2)
    # 16 patches; kernels of 24 × 24 and 24 × 40.
    for config, tokens, mlps in ((plain, 16, 2), (gated, 18, 3)):
        kernels = 2 * (4 * 24 * 24 + mlps * 24 * 40)
        assert encoder_flops(config) == 2 * kernels * tokens + 4 * 2 * 24 * tokens**2


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(distilled=True), 'needs head="cls" and a register'),
        (dict(position_embedding="rotary", width=18), r"head of 4·n dimensions, not 6"),
        (dict(registers=-1), "registers must be a whole number from 0"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        vit.configure("S/4", **(SHAPE | choices))


@pytest.mark.parametrize(
    "choice",
    [
        dict(layer_scale=True),
        dict(gated=True),
        dict(activation="gelu"),
        dict(position_embedding="rotary"),
    ],
)
def test_a_parallel_block_refuses_what_it_has_not(choice):
    with pytest.raises(ValueError, match="parallel blocks have no"):
        vit_22b.configure("22B/4", **SHAPE, **choice)
    vit_22b.configure("22B/4", **SHAPE, **choice, parallel=False)
