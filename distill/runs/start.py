"""Training that starts from a trained model instead of drawn parameters."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax

from distill.data.classes import Names
from distill.data.sources import abbreviate
from distill.errors import UserError, check_choices
from distill.nn import Network, Params
from distill.nn.adapt import CLASSIFIER, adapt, check_adaptable
from distill.parallel import override_rules
from distill.paths import LocalPath
from distill.runs.opened import open_model
from distill.train.progress import say
from distill.train.run import RunConfig, blame
from distill.train.state import INIT_STREAM
from distill.train.workdir import read_classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The trained model to start from."""

    workdir: LocalPath
    step: int | None = None
    """Of its checkpoint; None takes the last of a complete run."""
    classifier: Literal["new", "keep"] = "new"
    """A new one starts at zero; one that is kept needs the same classes."""

    def __post_init__(self):
        check_choices(self)


def kept_classes(start: StartConfig | None, count: int) -> Names:
    """The classes of a classifier that is kept; empty where none is, or nothing names them.

    Args:
      start: the trained model, if there is one.
      count: the classes of the model that starts from it.

    Raises:
      UserError: if there is no run to start from, or it has another number of classes.
    """
    if start is None or start.classifier == "new":
        return ()
    names = read_classes(Path(start.workdir))
    if not names:
        say(
            f"warning: the run in {start.workdir} did not record its classes; they are taken to be "
            "those of the data, in one order"
        )
    elif len(names) != count:
        raise UserError(
            f"the classifier of {start.workdir} that is to be kept has {len(names)} classes "
            f"({abbreviate(names)}), and config.model {count}; set config.model.num_classes="
            f"{len(names)}, or start.classifier=new"
        )
    return names


def starting_params(
    start: StartConfig | None,
    network: Network,
    config: RunConfig,
    training_only: tuple[str, ...] = (),
) -> Callable[[], Params] | None:
    """Reads the parameters to start from, once they are asked for; None draws them.

    A new classifier, and what no finished model has, are drawn as in a run that starts from
    nothing. A position embedding is interpolated to the network's grid.

    Args:
      start: the trained model.
      network: placed on a mesh.
      config: of the run.
      training_only: top-level names of parameters that no finished model has.

    Raises:
      UserError: when asked for the parameters, if there are none or they are another model's.
    """
    if start is None:
        return None
    fresh = (*training_only, CLASSIFIER) if start.classifier == "new" else training_only

    def initial():
        # Rules for parameters by name are for the new model's, in which some are not.
        mesh, rules = network.mesh, override_rules(config.mesh.rules)
        source = open_model(Path(start.workdir), mesh, step=start.step, rules=rules)
        with blame("config.model"):
            check_adaptable(source.network, network, fresh=fresh)
        key = jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM)
        return adapt(source.params, network, key, fresh=fresh)

    return initial
