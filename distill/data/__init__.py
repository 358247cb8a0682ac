"""Image sources, views and loaders."""

from distill.data.loader import Batch, DataConfig, EvalLoader, Splits, TrainLoader
from distill.data.sources import Source, open_source
from distill.data.views import ViewConfig

__all__ = [
    "Batch",
    "DataConfig",
    "EvalLoader",
    "Source",
    "Splits",
    "TrainLoader",
    "ViewConfig",
    "open_source",
]
