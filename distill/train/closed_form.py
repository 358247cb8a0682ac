"""Runs whose parameters are found at once: a workdir as of training, of one step."""

import contextlib
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp

from distill.config import to_dict
from distill.data import Splits
from distill.parallel import distributed, replicated
from distill.parallel.printed import say
from distill.train.fit import claim
from distill.train.kept import open_checkpoints
from distill.train.loggers.logger import check_installed
from distill.train.metrics import open_log
from distill.train.progress import format_headline, format_scores
from distill.train.state import abstract_state, init_state
from distill.train.trainee import Trained, Trainee

_STEP = 1


def settle(name: str, trainee: Trainee, *, splits: Splits, frozen: Any) -> Trained:
    """Finds a network's parameters, evaluates and keeps them; or reads what was kept.

    Args:
      name: what lines call the run.
      trainee: whose `initial` finds them.
      splits: its images.
      frozen: parameters that its evaluations need.

    Raises:
      UserError: if the workdir is another run's, or nothing can be found.
    """
    check_installed(trainee.config.train.loggers)
    claim([trainee], splits)
    network, optimizer = trainee.network, trainee.plan.optimizer
    with contextlib.ExitStack() as stack:
        checkpoints = open_checkpoints(trainee, stack)
        summary, there = trainee.workdir.summary, _STEP in checkpoints.steps
        if distributed.agree(there and summary is not None):
            say(f"{name}: {trainee.workdir.path} is complete already")
            state, _ = checkpoints.restore(abstract_state(network, optimizer), _STEP)
            return Trained(state.params, summary or {})
        began = time.perf_counter()
        assert trainee.initial is not None
        params = trainee.initial()
        seconds = time.perf_counter() - began
        config = trainee.config
        log = open_log(trainee.workdir.path, 0, stack, config.train.loggers, to_dict(config))
        found: dict[str, float] = {}
        for one in trainee.evaluations:
            found |= one.evaluate(params, frozen)
        if found:
            detailed = f"{name}: {format_scores(found)}"
            say(f"{name}: {format_headline(found)}", "bold", detailed=detailed)
        log.write(_STEP, found)
        log.flush()
        state = init_state(network, optimizer, trainee.config.seed, params=params)
        step = jax.device_put(jnp.int32(_STEP), replicated(network.mesh))
        if not there:
            progress = {"next_example": 0, "skipped": 0, "seconds": seconds}
            checkpoints.save(dataclasses.replace(state, step=step), progress)
            checkpoints.wait()
        summary = {
            "steps": _STEP,
            "parameters": network.parameter_count(),
            "seconds": round(seconds, 1),
            **found,
        }
        if trainee.final:
            summary |= trainee.final(params, frozen)
        if distributed.is_primary():
            trainee.workdir.write_summary(summary)
        log.conclude(summary)
    return Trained(params, summary)
