"""A checkpoint, and a directory of them."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from distill.checksums import damage_in
from distill.errors import Damaged, UserError
from distill.export.verify import size_of
from distill.inspect.kind import Kind, blame
from distill.inspect.lineage import model_and_lineage
from distill.inspect.tables import facts, tensor_table
from distill.tensor_files import Tensor
from distill.terminal import text_table
from distill.train import best
from distill.train.damage import metrics_file
from distill.train.progress import format_figure
from distill.train.workdir import is_run

_CHECKPOINT = "_CHECKPOINT_METADATA"
# In bytes: reading so much is not waited for.
_MOST_READ = 2**28
_ITEMS = ("params", "trained", "projections", "optimizer")


def is_checkpoint(path: Path) -> bool:
    """Whether a directory is a checkpoint."""
    return (path / _CHECKPOINT).is_file() or (path / "params").is_dir()


def _tell(path: Path) -> tuple[str, ...]:
    about = {"step": path.name if path.name.isdigit() else None, "items": _items(path)}
    of_run = ()
    # Of its run, two directories up.
    workdir = path.resolve().parent.parent
    if is_run(workdir):
        if path.resolve().parent.name == best.FOLDER and path.name.isdecimal():
            about["kept for"] = kept_for(workdir, int(path.name))
        about["run"] = workdir
        of_run = model_and_lineage(workdir)
    return facts(about), *of_run, tensor_table(arrays(path / "params"))


def kept_for(workdir: Path, step: int) -> str:
    """The metric for which weights in `best` were kept, and its value; empty where neither is told.

    Raises:
      UserError: if what tells them is damaged.
    """
    file = metrics_file(workdir / best.FOLDER / str(step))
    if not file.exists():
        return ""
    with blame(file, "what weights were kept for"):
        metric, value = best.kept_by(workdir, step)
        return f"{metric} {format_figure(metric, value)}"


def checkpoint_table(path: Path, steps: list[int]) -> str:
    """A line for each checkpoint of a directory."""
    folders = [path / str(step) for step in steps]
    rows = [(one.name, _items(one), f"{size_of(one) / 1e6:.2f}") for one in folders]
    return text_table(("step", "items", "MB"), rows)


def _items(checkpoint: Path) -> str:
    return ", ".join(item for item in _ITEMS if (checkpoint / item).is_dir())


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a directory, ascending."""
    if not folder.is_dir():
        return []
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return [step for step in steps if is_checkpoint(folder / str(step))]


def arrays(folder: Path) -> dict[str, Tensor]:
    """The arrays that Orbax has written under a directory.

    Raises:
      Damaged: if its files are not those that were written; of large ones the sizes are compared.
      UserError: if there are none.
    """
    # Orbax has its say of what is damaged, over many lines, before it says so.
    if problems := damage_in(folder, sizes_alone=size_of(folder) > _MOST_READ):
        raise Damaged(f"{folder} is damaged: {problems[0]}")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(folder.resolve()).item_metadata
        leaves = jax.tree.leaves_with_path(dict(tree), is_leaf=lambda leaf: hasattr(leaf, "shape"))
        return {
            jax.tree_util.keystr(keys, simple=True, separator="/"): Tensor(
                str(leaf.dtype), tuple(leaf.shape)
            )
            for keys, leaf in leaves
        }
    # Of a tree that is not there, or whose leaves are no arrays, what Python says.
    except (AttributeError, FileNotFoundError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{folder} holds no parameters, or is damaged: {error}") from error


KIND = Kind("a checkpoint", is_checkpoint, _tell)
