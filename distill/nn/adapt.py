"""Trained parameters for a model of another resolution or with another classifier."""

from collections.abc import Collection

import jax

from distill.nn.embeddings import resize_grid
from distill.nn.network import Network, Params

CLASSIFIER, POSITION = "classifier", "position"
CLASSIFIERS = (CLASSIFIER, "distillation_classifier")
"""With that of DeiT's distillation token."""


def check_adaptable(source: Network, target: Network, *, fresh: Collection[str] = ()) -> None:
    """Checks that `adapt` can make parameters of `target` from those of `source`.

    Args:
      source: the trained network.
      target: the network to be.
      fresh: modules that `target` gets anew.

    Raises:
      ValueError: naming the parameters that do not fit.
    """

    def shapes(network):
        free = {POSITION, *fresh}
        kept = {k: v for k, v in network.abstract_params.items() if k not in free}
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in jax.tree.leaves_with_path(kept)
        }

    theirs, ours = shapes(source), shapes(target)
    different = [
        f"{name} is {theirs.get(name, 'absent')} there and {ours.get(name, 'absent')} here"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    kinds = [network.config.position_embedding for network in (source, target)]
    if kinds[0] != kinds[1]:
        different.append(f"the position embedding is {kinds[0]} there and {kinds[1]} here")
    if different:
        raise ValueError("the trained model is another one: " + "; ".join(different))


def adapt(
    params: Params, target: Network, key: jax.Array, *, fresh: Collection[str] = ()
) -> Params:
    """Parameters of `target` from those of a model that `check_adaptable` accepts.

    A learned position embedding is interpolated bicubically in 2-D to the grid of `target`
    (arXiv 2010.11929, §3.2).

    Args:
      params: of the trained model.
      target: placed on a mesh.
      key: of what is drawn.
      fresh: top-level modules, such as the classifier, that are drawn as for a new model, whether
        the trained one has them or not.
    """

    def build(params):
        adapted = {name: module for name, module in params.items() if name not in fresh}
        if fresh:
            drawn = target.init(key)
            adapted |= {name: drawn[name] for name in fresh if name in drawn}
        if POSITION in params:
            grid = target.config.grid
            adapted[POSITION] = jax.tree.map(lambda t: resize_grid(t, grid), params[POSITION])
        return adapted

    return jax.jit(build, out_shardings=target.shardings)(params)


def at_image_size(params: Params, network: Network, target: Network) -> Params:
    """Parameters of a network for images of another size, placed as `target`'s are.

    Learned position embeddings, of an image tower inside it too, are interpolated as by `adapt`.

    Args:
      params: of the network.
      network: what they are of.
      target: the same network, but for the size of its images; placed on a mesh.
    """
    if network.abstract_params == target.abstract_params:
        return params

    def resize(leaf: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        if leaf.shape == wanted.shape:
            return leaf
        rows, columns, _ = wanted.shape
        return resize_grid(leaf.astype(wanted.dtype), (rows, columns)).astype(leaf.dtype)

    build = jax.jit(
        lambda params: jax.tree.map(resize, params, target.abstract_params),
        out_shardings=target.shardings,
    )
    return build(params)
