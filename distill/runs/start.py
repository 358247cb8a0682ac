"""Training that starts from a trained model instead of drawn parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from distill.config import resolve
from distill.data.classes import Names
from distill.data.sources import abbreviate
from distill.errors import UserError
from distill.nn import PairNetwork, Params, VisionNetwork, ViTConfig
from distill.nn.adapt import CLASSIFIERS, adapt, check_adaptable
from distill.parallel import override_rules
from distill.parallel.printed import say
from distill.runs.models import architecture
from distill.runs.opened import Described, ModelSource, describe_model, open_model
from distill.train.run import RunConfig, blame
from distill.train.state import INIT_STREAM

# What may be otherwise than in the model that a run starts from.
_OTHER = {"image_size", "num_classes"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig(ModelSource):
    """The trained model to start from."""

    classifier: Literal["new", "keep"] = "new"
    """A new one starts at zero; one that is kept needs the same classes."""

    def __post_init__(self):
        super().__post_init__()
        if self.weights is not None and self.weights.zeroshot is not None:
            raise ValueError(
                "weights.zeroshot is a classifier; a run starts from a pair's image tower: leave "
                "zeroshot out"
            )

    def describe(self) -> Described:
        """The trained model, of which no parameter is read.

        Raises:
          UserError: if it cannot be read, or is a pair.
        """
        found = describe_model(self.place)
        if isinstance(found.network, PairNetwork):
            raise UserError(
                f"the model in {self.source} is a pair of towers, and a run starts from a model of "
                "images alone: name a run of one, or published weights, of which the image tower "
                "is taken"
            )
        return found


def start_source(recorded: Mapping[str, Any] | None) -> str | None:
    """Where a recorded `StartConfig` found its model; None of a run that started from nothing."""
    return resolve(StartConfig, recorded).source if recorded else None


def kept_classes(start: StartConfig | None, count: int) -> Names:
    """The classes of a classifier that is kept; empty where none is, or nothing names them.

    Args:
      start: the trained model, if there is one.
      count: the classes of the model that starts from it.

    Raises:
      UserError: if there is no model to start from, or it has another number of classes.
    """
    if start is None or start.classifier == "new":
        return ()
    names = start.describe().class_names
    if not names:
        say(
            f"warning: nothing says what {start.source} calls its classes; they are taken to be "
            "those of the data, in one order"
        )
    elif len(names) != count:
        raise UserError(
            f"the classifier of {start.source} that is to be kept has {len(names)} classes "
            f"({abbreviate(names)}), and config.model {count}; set config.model.num_classes="
            f"{len(names)}, or start.classifier=new"
        )
    return names


def starting_params(
    start: StartConfig | None,
    network: VisionNetwork,
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
    fresh = (*training_only, *CLASSIFIERS) if start.classifier == "new" else training_only

    def initial():
        # Rules for parameters by name are for the new model's, in which some are not.
        mesh, rules = network.mesh, override_rules(config.mesh.rules)
        start.describe()
        source = open_model(start.place, mesh, step=start.step, rules=rules)
        with blame("config.model"):
            check_adaptable(source.network, network, fresh=fresh)
        for name, (there, here) in _choices_apart(source.network, network).items():
            say(
                f"warning: {start.source} was trained with {name}={there}, and starts here with "
                f"{here}; set config.model.{name} for the function that it was"
            )
        key = jax.random.fold_in(jax.random.key(config.seed), INIT_STREAM)
        return adapt(source.params, network, key, fresh=fresh)

    return initial


def _choices_apart(source: VisionNetwork, target: VisionNetwork) -> dict[str, tuple[str, str]]:
    """Choices that differ and that parameters do not tell, such as the activation, by name."""
    there, here = (_choices(network.config) for network in (source, target))
    return {
        name: (str(there[name]), str(here[name]))
        for name in sorted(there.keys() & here.keys())
        if there[name] != here[name]
    }


def _choices(config: ViTConfig) -> dict[str, Any]:
    choices = architecture(config)
    # One value is that of every channel.
    spread = {
        name: np.broadcast_to(choices[name], config.channels).tolist() for name in ("mean", "std")
    }
    return {name: value for name, value in (choices | spread).items() if name not in _OTHER}
