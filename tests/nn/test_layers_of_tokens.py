"""Tokens of chosen layers, beside blocks called one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distill.nn import PairNetwork, TextConfig, VisionNetwork, VisionTransformer, ViTConfig

SMALL = dict(width=8, depth=4, mlp_dim=16, heads=2, patch_size=4, image_size=8, num_classes=3)
HEADS = (
    dict(head="map"),
    dict(head="cls", registers=2),
    dict(head="gap", registers=1, position_embedding="rotary", heads=2),
    dict(head="cls", registers=1, distilled=True, pre_norm=True),
)


def _network(**choices):
    return VisionNetwork(ViTConfig(**(SMALL | choices)), VisionTransformer)


def _drawn(network, seed=0):
    params = network.init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return tree.unflatten(
        [one + 0.3 * jax.random.normal(k, one.shape) for k, one in zip(keys, leaves, strict=True)]
    )


def _images(side=8, seed=5):
    return jax.random.normal(jax.random.key(seed), (2, side, 2 * side, 3))


def _block_by_block(network, params, images):
    """The tokens after each block, [L, B, T, D], of a module without scan."""

    def of(module, images):
        found = []
        shallow = module.encoder
        for depth in range(1, shallow.depth + 1):
            graph, state = nnx.split(shallow.blocks)
            x = found[-1] if found else _entering(module, images)
            one = nnx.map_state(lambda _, p, d=depth: p.replace(p[...][d - 1]), state)
            rotation = _rotation(module, images)
            where = () if rotation is None else (rotation,)
            found.append(nnx.merge(graph, one)(x, *where))
        return jnp.stack(found), jnp.stack([shallow.norm(x) for x in found])

    return network.apply(params, images, method=of)


def _rotation(module, images):
    from distill.nn.embeddings import rotary2d

    c = module.config
    if c.position_embedding != "rotary":
        return None
    grid = images.shape[1] // c.patch_size, images.shape[2] // c.patch_size
    return rotary2d(grid, c.width // c.heads, c.rotary_base)


def _entering(module, images):
    x = module.position(module.patch_embed(images))
    x = x.reshape(len(x), -1, x.shape[-1])
    for front in (module.registers, module.class_token):
        if front is not None:
            x = jnp.concatenate([jnp.tile(front[...], (len(x), 1, 1)), x], axis=1)
    return x if module.pre_norm is None else module.pre_norm(x)


@pytest.mark.parametrize(
    "choices, how",
    [*((head, {}) for head in HEADS), (HEADS[0], {"unroll": True}), (HEADS[1], {"remat": "full"})],
    ids=lambda c: "-".join(map(str, c.values())),
)
def test_tokens_of_layers_are_those_of_blocks_called_one_by_one(choices, how):
    network = _network(**choices, **how)
    params, images = _drawn(network), _images()
    raw, normed = _block_by_block(network, params, images)
    prefix = network.config.prefix
    for reference, is_normed in ((raw, False), (normed, True)):
        output, tokens = network.with_layers(params, images, (4, 1, 3), normed=is_normed)
        expected = jnp.moveaxis(reference[np.array([3, 0, 2])], 0, 1)
        patches = expected[:, :, prefix:].reshape(2, 3, 2, 4, 8)
        np.testing.assert_allclose(tokens.patches, patches, rtol=1e-5, atol=1e-5)
        if network.config.head == "cls":
            np.testing.assert_allclose(tokens.class_token, expected[:, :, 0], atol=1e-5)
        else:
            assert tokens.class_token is None
        registers = expected[:, :, network.config.head == "cls" : prefix]
        if network.config.registers:
            np.testing.assert_allclose(tokens.registers, registers, atol=1e-5)
        else:
            assert tokens.registers is None
        for ours, whole in zip(output, network.apply(params, images), strict=True):
            np.testing.assert_allclose(ours, whole, rtol=1e-6, atol=1e-6)


def test_the_last_layer_normed_is_what_a_call_returns():
    network = _network()
    params, images = _drawn(network), _images()
    output, tokens = network.with_layers(params, images, (4,))
    np.testing.assert_array_equal(tokens.patches[:, 0].reshape(output.tokens.shape), output.tokens)


def test_gradients_flow_through_layers_as_through_blocks():
    network = _network(remat="full")
    params, images = _drawn(network), _images()

    def scanned(params):
        _, tokens = network.with_layers(params, images, (2, 3), normed=False)
        return jnp.sum(jnp.sin(tokens.patches))

    def by_block(params):
        raw, _ = _block_by_block(network, params, images)
        return jnp.sum(jnp.sin(raw[1:3]))

    ours, reference = jax.grad(scanned)(params), jax.grad(by_block)(params)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_pair_has_the_tokens_of_its_image_tower():
    image = _network(num_classes=0)
    text = TextConfig(vocab=10, length=4, width=8, depth=1, mlp_dim=8, heads=2, embed_dim=8)
    pair = PairNetwork.of(image, text)
    params, images = _drawn(pair), _images()
    output, tokens = pair.with_layers(params, images, (1, 4))
    _, expected = image.with_layers(params["image"], images, (1, 4))
    np.testing.assert_array_equal(tokens.patches, expected.patches)
    np.testing.assert_array_equal(output.embedding, pair.apply(params, images).embedding)


@pytest.mark.parametrize("layers, said", [((0,), "no layer 0"), ((5,), "1 to 4"), ((2, 2), "once")])
def test_layers_that_there_are_not_are_refused(layers, said):
    network = _network()
    with pytest.raises(ValueError, match=said):
        network.with_layers(network.init(jax.random.key(0)), _images(), layers)
