"""What is shown of what libraries say by themselves."""

from support import run_python

CODE = """
import logging, sys
from absl import logging as absl_logging
from distill.command.quiet import quieten_libraries

def say(path, error):
    try:
        raise error
    except Exception:
        where = (logging.ERROR, path, 1)
        record = logging.LogRecord("absl", *where, "of %s", (path,), sys.exc_info())
        absl_logging.get_absl_logger().handle(record)

quieten_libraries()
late = RuntimeError("cannot schedule new futures after interpreter shutdown")
say("/one/orbax/other.py", late)
say("/one/orbax/other.py", RuntimeError("cannot schedule new futures after shutdown"))
say("/one/orbax/futures/future.py", RuntimeError("something else"))
say("/two/orbax/other.py", OSError(28, "No space left on device"))
say("/three/orbax/other.py", RuntimeError("something else"))
say("/four/other/futures/future.py", late)
"""


def test_threads_of_orbax_say_nothing_that_is_told_elsewhere_or_too_late_to_matter():
    done = run_python("-c", CODE)
    assert done.returncode == 0, done.stderr
    assert "of /one" not in done.stderr and "of /two" not in done.stderr
    assert "of /three" in done.stderr and "of /four" in done.stderr
