"""A network of any module: its parameters, where they live, and what it can be called with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from distill.nn import Network
from distill.parallel import MeshConfig, RuleTable, make_mesh


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """A bag of words."""

    vocab: int = 11
    width: int = 4


class BagOfWords(nnx.Module):
    """The mean of tokens' embeddings, mapped to two numbers; layers are flax's own."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(config.vocab, config.width, rngs=rngs)
        self.output = nnx.Linear(
            config.width, 2, kernel_metadata={"axes": ("embed", None)}, rngs=rngs
        )

    def __call__(self, tokens):
        return self.output(self.encode(tokens))

    def encode(self, tokens):
        return jnp.mean(self.embed(tokens), axis=1)


class TextNetwork(Network):
    """Says what it is called with."""

    def abstract_inputs(self, batch_size):
        return (jax.ShapeDtypeStruct((batch_size, self.config.width), "float32"),)


class Normalised(nnx.Module):
    """Holds running means beside its parameters."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(config.width, rngs=rngs)


TOKENS = np.array([[1, 2, 2], [0, 10, 5]])


def test_a_text_module_is_a_network():
    network = Network(TextConfig(), BagOfWords)
    assert network.parameter_count() == 11 * 4 + 4 * 2 + 2
    assert network.parameter_count(without=("embed",)) == 4 * 2 + 2
    params = network.init(jax.random.key(0))
    table, output = params["embed"]["embedding"], params["output"]
    encoded = np.asarray(table, np.float64)[TOKENS].mean(1)
    expected = encoded @ np.asarray(output["kernel"], np.float64) + np.asarray(output["bias"])
    np.testing.assert_allclose(network.apply(params, TOKENS), expected, rtol=1e-5)
    found = network.apply(params, TOKENS, method=BagOfWords.encode)
    np.testing.assert_allclose(found, encoded, rtol=1e-5)


def test_parameters_without_named_axes_are_never_cut():
    mesh = make_mesh(MeshConfig())
    network = Network(TextConfig(), BagOfWords).placed(mesh, RuleTable((("embed", ("data",)),)))
    assert network.axes["embed"]["embedding"] == (None, None)
    assert network.axes["output"] == {"kernel": ("embed", None), "bias": (None,)}
    assert network.shardings["embed"]["embedding"].spec == PartitionSpec(None, None)
    assert jax.tree.structure(network.shardings) == jax.tree.structure(network.abstract_params)


def test_variables_that_would_be_lost_are_refused():
    network = Network(TextConfig(), Normalised)
    with pytest.raises(ValueError, match="norm/mean is a BatchStat; every variable of a network"):
        _ = network.abstract_params


def test_only_a_network_that_says_its_inputs_is_traced():
    Network(TextConfig(), BagOfWords).check(3)
    with pytest.raises(ValueError, match="must be an integer"):
        TextNetwork(TextConfig(), BagOfWords).check(3)
