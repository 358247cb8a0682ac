"""Errors that a user can mend: shown as one message, never as a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what to change.

    `pipelines.cli` prints the message and exits with `exit_code`.
    """

    exit_code = 2


class RunFailed(UserError):
    """A run that started well and had to stop; what it saved before is kept."""

    exit_code = 1
