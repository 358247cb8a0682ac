"""What tests give processes to do; they import nothing else."""

import os
import signal
import time

from distill.errors import RunFailed


def doubled(factor, number, tick):
    tick(1)
    return factor * number


def killed(number, tick):
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number, tick):
    """The first fails; the others would take for ever."""
    if number == 0:
        raise RunFailed("no")
    while True:
        time.sleep(0.01)
        tick(1)
