"""Text towers: what they pool and mask, how they begin, and other ways to run them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from big_vision_reference import LENGTH, TEXT_WIDTH, VOCAB, text_arrays, text_reference
from support import run_script

from distill.nn import TextConfig, TextNetwork, TextTransformer, count_flops
from teachers.pretrained import open_text

EOS = VOCAB - 1
# The end at the last, the first and inner places; twice; and larger ids nowhere.
IDS = np.array(
    [[1, 2, 3, 4, 5, EOS], [EOS, 2, 3, 0, 0, 0], [7, 8, EOS, 9, EOS, 0], [1, 1, EOS, 1, 1, 1]],
    np.int32,
)
SHAPE = dict(vocab=VOCAB, length=LENGTH, width=16, heads=2, depth=2, mlp_dim=24)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pool", ["last", "first", "eos", "argmax", "mean", "max", "map"])
def test_pools_match_the_equations(tmp_path, pool, causal):
    arrays = text_arrays(pool=pool, head=pool != "mean")
    np.savez(tmp_path / "text.npz", **arrays)
    tower = open_text(tmp_path / "text.npz")
    config = dataclasses.replace(tower.network.config, pool=pool, causal=causal, eos_id=EOS)
    network = TextNetwork(config, TextTransformer)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(network.apply)(tower.read(), IDS)
    embedding, tokens = text_reference(arrays, IDS, pool=pool, causal=causal, eos_id=EOS)
    np.testing.assert_allclose(found.embedding, embedding, rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.tokens, tokens, rtol=0, atol=2e-5)
    assert found.tokens.shape == (4, LENGTH, TEXT_WIDTH)


def network_of(**choices):
    return TextNetwork(TextConfig(**(SHAPE | choices)), TextTransformer)


@functools.cache
def drawn_params():
    network = network_of(embed_dim=12)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32),
        network.abstract_params,
    )


@functools.cache
def value_and_gradients(**choices):
    network = network_of(embed_dim=12, causal=True, pool="eos", eos_id=EOS, **choices)

    def loss(params):
        return jnp.sum(network.apply(params, IDS).embedding ** 2)

    return jax.jit(jax.value_and_grad(loss))(drawn_params())


@pytest.mark.parametrize(
    "choices",
    [dict(unroll=True), dict(remat="full"), dict(remat="dots"), dict(attention="plain")],
    ids=str,
)
def test_other_ways_to_run_a_tower_compute_the_same(choices):
    for found, wanted in zip(
        *map(jax.tree.leaves, (value_and_gradients(**choices), value_and_gradients())), strict=True
    ):
        scale = max(1e-3, float(np.abs(wanted).max()))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale)


def test_bfloat16_is_near_and_its_head_is_float32():
    ours, theirs = (
        network_of(embed_dim=12, dtype=dtype).apply(drawn_params(), IDS)
        for dtype in ("bfloat16", "float32")
    )
    assert ours.tokens.dtype == jnp.bfloat16
    assert ours.embedding.dtype == jnp.float32
    difference = np.abs(np.asarray(ours.embedding) - theirs.embedding).max()
    assert 0 < difference < 0.05 * np.abs(theirs.embedding).max()


def test_initial_values_are_those_of_big_vision():
    network = network_of(vocab=400, length=64, width=64, heads=4, embed_dim=96)
    fast = {"xla_backend_optimization_level": 0}
    params = jax.jit(network.init, compiler_options=fast)(jax.random.key(0))
    for name in ("token_embedding", "position_embedding"):
        assert np.std(params[name]) == pytest.approx(1 / 8, rel=0.05)
    # LeCun's: a variance of one over the fan-in, cut off at two deviations.
    assert np.std(params["head"]["kernel"]) == pytest.approx(1 / 8, rel=0.05)
    assert np.abs(params["head"]["kernel"]).max() < 2.3 / 8
    assert not params["head"]["bias"].any()
    limit = np.sqrt(6 / (64 + 64))
    query = np.abs(params["encoder"]["blocks"]["attention"]["query"]["kernel"]).max()
    assert 0.95 * limit < query <= limit


def test_ids_that_the_table_has_not_are_no_numbers():
    ids = IDS.copy()
    ids[1, 4] = VOCAB
    found = network_of(pool="mean").apply(
        {k: v for k, v in drawn_params().items() if k != "head"}, ids
    )
    np.testing.assert_array_equal(np.isnan(found.embedding).all(1), [False, True, False, False])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(heads=3), "width 16 is not divisible by heads 3"),
        (dict(length=0), "length must be a whole number from 1 to 16,384, not 0"),
        (dict(vocab=0), "vocab must be a whole number from 1"),
        (dict(pool="cls"), "pool must be one of 'last', 'first'"),
        (dict(pool="eos", eos_id=VOCAB), "eos_id 19 is none of the 19 ids"),
        (dict(embed_dim=-1), "embed_dim must be a whole number from 0"),
        (dict(norm_epsilon=0.0), "norm_epsilon must be a number from 1e-18"),
        (dict(remat_keep=("query",)), 'remat_keep belongs to remat "full"'),
    ],
)
def test_choices_that_contradict_each_other_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        network_of(**choices)


def test_a_tower_is_described_without_memory_and_its_pass_is_checked():
    # SigLIP 2's So400m, 1.1 GB of token table alone.
    network = network_of(
        vocab=256_000, length=64, width=1152, depth=27, mlp_dim=4304, heads=16, embed_dim=1152
    )
    network.check(4)
    kernels = 27 * (4 * 1152**2 + 2 * 1152 * 4304)
    vectors = 27 * (4 * 1152 + 4304 + 1152 + 4 * 1152) + 2 * 1152
    rest = (256_000 + 64) * 1152 + 1152**2 + 1152
    assert network.parameter_count() == kernels + vectors + rest
    flops = count_flops(network.apply, network.abstract_params, *network.abstract_inputs(1))
    assert flops.matrix == 2 * 64 * kernels + 27 * 4 * 64**2 * 1152 + 2 * 1152**2
    with pytest.raises(ValueError, match="platform is 'cpu', expected 'tpu'"):
        network_of(attention="splash").check(4)


EIGHT_DEVICES = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from distill.nn import Pair, PairNetwork, TextConfig
from distill.parallel import MeshConfig, make_mesh, override_rules
from students import vit

text = TextConfig(
    vocab=24, length=6, width=16, heads=2, depth=2, mlp_dim=24, embed_dim=16,
    causal=True, pool="eos", eos_id=23)
image = vit.build(vit.configure(
    "mu/4", image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0))
network = PairNetwork.of(image, text, embed_dim=16, bias=True)
rng = np.random.default_rng(0)
params = jax.tree.map(
    lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype("float32"),
    network.abstract_params)
images = rng.standard_normal((8, 8, 8, 3)).astype("float32")
ids = rng.integers(0, 24, (8, 6)).astype("int32")

def run(network):
    placed = jax.device_put(params, network.shardings)
    def loss(params):
        logits = network.apply(params, images, ids, method=Pair.compare)
        return jnp.sum(jnp.tanh(logits)), logits
    fast = {"xla_backend_optimization_level": 0}
    values = jax.jit(jax.grad(loss, has_aux=True), compiler_options=fast)(placed)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(values)], placed

wanted, _ = run(network.placed(make_mesh(MeshConfig(), jax.devices()[:1])))
facts = {}
for name, mesh, rules in (
    ("tensor", dict(data=2, fsdp=2, tensor=2), ()),
    ("fsdp", dict(data=1, fsdp=8), ()),
    ("vocab", dict(data=2, fsdp=4), (("vocab", ("fsdp",)),)),
):
    found, placed = run(network.placed(make_mesh(MeshConfig(**mesh)), override_rules(rules)))
    # Some, such as a key's bias, have no gradient at all.
    least = 1e-3 * max(np.abs(b).max() for b in wanted)
    error = max(np.abs(a - b).max() / max(np.abs(b).max(), least) for a, b in zip(found, wanted))
    table = placed["text"]["token_embedding"]
    facts[name] = [float(error), list(table.sharding.shard_shape(table.shape))]
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_eight_devices_compute_what_one_does_and_share_the_token_table():
    facts = run_script(EIGHT_DEVICES)
    tables = {name: table for name, (_, table) in facts.items()}
    assert tables == {"tensor": [12, 8], "fsdp": [24, 2], "vocab": [6, 16]}
    assert max(error for error, _ in facts.values()) < 1e-5, facts
