"""TensorBoard's event files."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from distill.train.loggers.logger import LoggedRun, LoggerKind


class EventFile:
    """A new file of TensorBoard's scalars, written without TensorFlow.

    TensorBoard's EventFileWriter opens its file with TensorFlow wherever that is installed, which
    takes seconds and gigabytes; its RecordWriter takes any file. The file begins with the step
    after which the run goes on: TensorBoard then drops what earlier files have of later steps.
    """

    def __init__(self, run: LoggedRun):
        self._run = run
        self._records: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        # TensorBoard takes half a second to import, for which no first step need wait.
        from tensorboard.compat.proto.event_pb2 import (
            Event,  # pyright: ignore[reportAttributeAccessIssue] - made when it is imported
        )
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        if self._records is None:
            self._begin()
        event = Event(step=step)
        for name, value in values.items():
            event.summary.MergeFrom(scalar_pb(name, value))
        self._append(event)

    def _begin(self) -> None:
        from tensorboard.compat.proto.event_pb2 import (
            Event,  # pyright: ignore[reportAttributeAccessIssue]
            SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard reads all files of a directory in the order of their names, which clocks that
        # are set back must not change.
        workdir = self._run.workdir
        there = (one.name.split(".")[3] for one in workdir.glob("events.out.tfevents.*.*.*"))
        newest = max((int(one) for one in there if one.isdigit()), default=0)
        number = max(time.time_ns(), newest + 1)
        name = f"events.out.tfevents.{number}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((workdir / name).open("xb"))
        self._append(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._append(Event(step=max(self._run.resume_step + 1, 0), session_log=start))

    def _append(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Leaves final figures to summary.json."""

    def close(self) -> None:
        """Closes the file."""
        if self._records is not None:
            self._records.close()


LOGGERS = (LoggerKind(name="tensorboard", open=EventFile),)
