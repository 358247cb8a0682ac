"""Orbax's items of a checkpoint, each with checksums of its files.

They are written when all files of an item are, and before Orbax gives the checkpoint its name: one
that counts has them. Where several processes take part, each reads back what it wrote itself, and
the primary the rest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.future import Future

from distill.checksums import Checksum, checksums_of, files_in, write_checksums
from distill.json_files import read_json, write_json

# What a process writes alone, and where it leaves the checksums of that to the primary.
_OWN = "ocdbt.process_{}/"
_OF_PROCESS = "checksums.{}.json"


class Arrays(ocp.StandardCheckpointHandler):
    """A tree of arrays."""

    async def async_save(self, directory: Any, *args: Any, **kwargs: Any) -> list[Future]:
        """Starts writing; see Orbax."""
        begun = await super().async_save(directory, *args, **kwargs) or []
        return [*begun, _Own(directory, begun)] if jax.process_count() > 1 else begun

    def finalize(self, directory: Any) -> None:
        """Is called on the primary once all processes have written."""
        super().finalize(directory)
        _finish(Path(directory))


class Json(ocp.JsonCheckpointHandler):
    """An object."""

    def finalize(self, directory: Any) -> None:
        """Is called on the primary once it has written."""
        super().finalize(directory)
        _finish(Path(directory))


@ocp.args.register_with_handler(Arrays, for_save=True)
class SaveArrays(ocp.args.StandardSave):
    """A tree to save."""


@ocp.args.register_with_handler(Arrays, for_restore=True)
class RestoreArrays(ocp.args.StandardRestore):
    """A tree to restore, as shapes, dtypes and shardings."""


@ocp.args.register_with_handler(Json, for_save=True)
class SaveJson(ocp.args.JsonSave):
    """An object to save."""


@ocp.args.register_with_handler(Json, for_restore=True)
class RestoreJson(ocp.args.JsonRestore):
    """An object to restore."""


class _Own:
    """Writes down the checksums of what this process wrote of an item, once it is written."""

    def __init__(self, directory: Any, begun: Sequence[Future]):
        self._directory, self._begun = directory, begun

    def result(self, timeout: float | None = None) -> None:
        """Returns when they are written."""
        for one in self._begun:
            one.result(timeout)
        # A directory that was yet to be made when this was.
        directory = Path(getattr(self._directory, "path", self._directory))
        number = jax.process_index()
        own = _OWN.format(number)
        names = [own + name for name in files_in(directory / own)]
        write_json(directory / _OF_PROCESS.format(number), checksums_of(directory, names))

    def cancel(self) -> None:
        """What is being written is not given up."""


def _finish(directory: Path) -> None:
    known: dict[str, Checksum] = {}
    for number in range(jax.process_count()):
        file = directory / _OF_PROCESS.format(number)
        if file.is_file():
            known |= read_json(file)
            file.unlink()
    write_checksums(directory, known)
