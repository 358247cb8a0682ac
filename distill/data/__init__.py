"""Image sources, views and loaders."""

from distill.data.config import DataConfig, Splits
from distill.data.examples import Batch, TeacherView
from distill.data.loader import EvalLoader, TrainLoader
from distill.data.sources import Source, Subset, open_source
from distill.data.store import Contents, Store, StoreWriter
from distill.data.subsets import ChosenClasses, FewImages
from distill.data.transforms import Transformed
from distill.data.views import ViewConfig

__all__ = [
    "Batch",
    "ChosenClasses",
    "Contents",
    "DataConfig",
    "EvalLoader",
    "FewImages",
    "Source",
    "Splits",
    "Store",
    "StoreWriter",
    "Subset",
    "TeacherView",
    "TrainLoader",
    "Transformed",
    "ViewConfig",
    "open_source",
]
