"""Pre-train giant vision transformers and distil them into small ones, in JAX.

The library both sides share, from the ground up:

- `distill.nn`: layers, the scanned encoder, the vision transformer.
- `distill.parallel`: device mesh and sharding rules.
- `distill.optim`: the Adafactor variant, schedules, per-parameter rules.
- `distill.data`: image sources, views and loaders.
- `distill.tasks`, `distill.losses`, `distill.mixing`: classification, and function matching.
- `distill.train`: state, step, loop, checkpoints, metrics.
- `distill.evaluate`: classification and agreement.
- `distill.runs`: what configs and workdirs stand for.
- `distill.estimate`, `distill.laws`: what a run on TPUs would take, and scaling laws.
- `distill.export`, `distill.inspect`, `distill.report`: trained models for other programs; what
  paths hold; pages and tables.
- `distill.auto`, `distill.serving`: runs that are chosen, and finished models that are used.
- `distill.command`: from a command line to a run.
- `distill.api`: `distill.distil` and `distill.load`.

Teachers live in `teachers`, students in `students`, commands in `pipelines`.
Importing this package imports none of its parts: take what you need.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Of `distill.api`, which is loaded when one is asked for.
_API = ("Answers", "Model", "distil", "load")


def __getattr__(name: str) -> Any:
    """What `distill.api` offers, loaded when it is asked for."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("distill.api"), name)


def __dir__() -> list[str]:
    """What is here, and what is loaded when it is asked for."""
    return sorted({*globals(), *_API})
