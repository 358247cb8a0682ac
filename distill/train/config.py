"""How long a run is, and what it does on the way."""

import dataclasses
import math
from typing import NamedTuple

from distill.bounds import MOST_STEPS, BatchSize, Images, Some, SomeEpochs, SomeSteps, check_fields
from distill.config import how_it_runs
from distill.errors import GivenTwice, check_each_once
from distill.train.loggers.logger import LoggerName

_LENGTHS = ("total_steps", "total_epochs", "total_examples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, and what to do on the way.

    Raises:
      ValueError: unless exactly one duration is given and all counts are positive.
    """

    batch_size: BatchSize = 512
    """Global, over all devices."""
    microbatches: BatchSize = how_it_runs(1)
    """Parts of each device's share of the batch that are computed one after another: less memory
    for activations, the same update."""
    total_steps: SomeSteps | None = None
    """The run's length; give this, total_epochs or total_examples."""
    total_epochs: SomeEpochs | None = None
    """Passes over the training images."""
    total_examples: Images | None = None
    log_every: SomeSteps | None = how_it_runs(None)
    """Steps between lines of metrics; None takes a fiftieth of the run, at most 100."""
    eval_every: SomeSteps | None = how_it_runs(None)
    """None takes a twentieth of the run, at most 5000."""
    checkpoint_every: SomeSteps | None = how_it_runs(None)
    """None takes a twentieth of the run, at most 5000."""
    keep_checkpoints: Some = how_it_runs(3)
    """How many of the newest checkpoints to keep; of several students at once two at least."""
    keep_every: SomeSteps | None = how_it_runs(None)
    """Steps between checkpoints that are kept for good, for instance to branch cooldowns off."""
    keep_best: str | None = how_it_runs(None)
    """Metric, such as val/accuracy, whose best weights are kept beside the checkpoints; see
    `distill.train.best`."""
    loggers: tuple[LoggerName, ...] = how_it_runs(("tensorboard",))
    """Where metrics go beside metrics.jsonl: some of the files of `distill/train/loggers`, such as
    wandb, mlflow, tensorboard; see docs/loggers.md."""
    evaluate_first: bool = False
    """Whether to evaluate before the first step, which is logged as step 0."""
    example_images: Some | None = how_it_runs(2000)
    """Held-out images, at most, of which the run's page shows what the model says; None shows
    none."""

    def __post_init__(self):
        check_fields(self)
        check_each_once("loggers", self.loggers)
        given = [name for name in _LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            raise GivenTwice(
                "give exactly one of total_steps, total_epochs and total_examples, not "
                f"{' and '.join(given) or 'none of them'}",
                given,
            )

    def steps(self, examples: int) -> int:
        """The run's length in steps on so many training images.

        Raises:
          ValueError: if that is less than one step, or more than can be counted.
        """
        if self.total_steps is not None:
            return self.total_steps
        seen = self.total_examples
        if seen is None:
            seen = (self.total_epochs or 0) * examples
        if seen < self.batch_size:
            raise ValueError(
                f"{seen:g} images, of {examples} to train on, are less than one batch of "
                f"{self.batch_size}"
            )
        steps = math.floor(seen / self.batch_size)
        if steps > MOST_STEPS:
            raise ValueError(
                f"{seen:g} images in batches of {self.batch_size} are {steps:,} steps; expected at "
                f"most {MOST_STEPS:,}"
            )
        return steps

    def intervals(self, steps: int) -> "Intervals":
        """Those that are given, and for the others what suits a run of so many steps."""
        twentieth = min(math.ceil(steps / 20), 5000)
        return Intervals(
            log=self.log_every or min(math.ceil(steps / 50), 100),
            evaluate=self.eval_every or twentieth,
            save=self.checkpoint_every or twentieth,
        )


class Intervals(NamedTuple):
    """Steps between lines of metrics, evaluations and checkpoints."""

    log: int
    evaluate: int
    save: int
