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
- `distill.command`: from a command line to a run.

Teachers live in `teachers`, students in `students`, commands in `pipelines`.
Importing this package imports none of its parts: take what you need.
"""

__version__ = "0.1.0"
