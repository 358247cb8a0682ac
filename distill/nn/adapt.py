"""Trained parameters for a model of another resolution or with another classifier."""

import jax

from distill.nn.embeddings import resize_grid
from distill.nn.network import Network, Params

CLASSIFIER, POSITION = "classifier", "position"


def check_adaptable(source: Network, target: Network, *, new_classifier: bool) -> None:
    """Checks that `adapt` can make parameters of `target` from those of `source`.

    Raises:
      ValueError: naming the parameters that do not fit.
    """

    def shapes(network):
        free = {POSITION} | ({CLASSIFIER} if new_classifier else set())
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


def adapt(params: Params, target: Network, key: jax.Array, *, new_classifier: bool) -> Params:
    """Parameters of `target` from those of a model that `check_adaptable` accepts.

    A learned position embedding is interpolated bicubically in 2-D to the grid of `target`
    (arXiv 2010.11929, §3.2); a new classifier is drawn as for a new model.

    Args:
      params: of the trained model.
      target: placed on a mesh.
      key: of the classifier.
      new_classifier: whether `target` gets a classifier of its own.
    """

    def build(params):
        adapted = dict(params)
        if new_classifier:
            fresh = target.init(key)
            adapted.pop(CLASSIFIER, None)
            adapted |= {CLASSIFIER: fresh[CLASSIFIER]} if CLASSIFIER in fresh else {}
        if POSITION in params:
            grid = target.config.grid
            adapted[POSITION] = jax.tree.map(lambda t: resize_grid(t, grid), params[POSITION])
        return adapted

    return jax.jit(build, out_shardings=target.shardings)(params)
