"""The Adafactor variant, schedules and per-parameter rules."""

from distill.optim.adafactor import factored_dims, scale_by_factored_rms, state_bytes
from distill.optim.durations import RunLength
from distill.optim.optimizer import (
    OptimizerConfig,
    make_optimizer,
    state_axes,
    trained_params,
)
from distill.optim.rules import match_rules, parameter_names
from distill.optim.schedules import Multiplier, ScheduleConfig, make_schedule

__all__ = [
    "Multiplier",
    "OptimizerConfig",
    "RunLength",
    "ScheduleConfig",
    "factored_dims",
    "make_optimizer",
    "make_schedule",
    "match_rules",
    "parameter_names",
    "scale_by_factored_rms",
    "state_axes",
    "state_bytes",
    "trained_params",
]
