"""What is trained, and what comes of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill.data.classes import Names
from distill.nn import Network, Params
from distill.train.loop import Evaluate, Recurring
from distill.train.run import Plan, RunConfig
from distill.train.state import TrainState, abstract_state
from distill.train.step import Task
from distill.train.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished run leaves behind."""

    params: Params
    summary: dict[str, Any]
    """As in summary.json: steps, parameters, accuracies, images per second, seconds.

    Where several processes take part, the primary's is the one to read.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainee:
    """One network to train: everything that is its own where several are trained together."""

    config: RunConfig
    """What the workdir was begun with may differ in how it runs."""
    plan: Plan
    """Of the config and the network."""
    workdir: Workdir
    network: Network
    """Placed on the mesh."""
    task: Task
    evaluations: Sequence[Recurring] = ()
    """While it trains."""
    final: Evaluate | None = None
    """Once, at the end."""
    examples: Callable[[Params, Any], None] | None = None
    """Keeps, at the very end, what the run's page shows of it."""
    class_names: Names | None = None
    """In the order of the network's logits, for classes.json; None if nothing says them."""
    initial: Callable[[], Params] | None = None
    """Makes the parameters that a new run starts with; None draws them."""
    section: str = "model"
    """Of the config the user gives, which says what the network is."""
    teachers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Who taught it, by name, for teachers.json."""
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Weights of its loss's terms, by the names of what the task logs of them."""

    @property
    def abstract_state(self) -> TrainState:
        """The shapes, dtypes and places of its state."""
        averaged = self.config.optimizer.average_decay is not None
        return abstract_state(self.network, self.plan.optimizer, averaged=averaged)
