"""TensorBoard's event files."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

# It is made when the module is imported.
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """A new file of TensorBoard's scalars, written without TensorFlow.

    TensorBoard's EventFileWriter opens its file with TensorFlow wherever that is installed, which
    takes seconds and gigabytes; its RecordWriter takes any file.
    """

    def __init__(self, workdir: Path):
        # TensorBoard reads all files of a directory in the order of their names, which clocks that
        # are set back must not change.
        there = (one.name.split(".")[3] for one in workdir.glob("events.out.tfevents.*.*.*"))
        newest = max((int(one) for one in there if one.isdigit()), default=0)
        number = max(time.time_ns(), newest + 1)
        name = f"events.out.tfevents.{number}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((workdir / name).open("xb"))
        self._append(Event(file_version="brain.Event:2"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        event = Event(step=step)
        for name, value in values.items():
            event.summary.MergeFrom(scalar_pb(name, value))
        self._append(event)

    def _append(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        self._records.close()
