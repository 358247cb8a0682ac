"""Examples that are made into others where they are read, such as captions into tokens."""

from collections.abc import Callable

from distill.data.sources.base import Derived, Source
from distill.data.spec import Example, ExampleSpec


class Transformed(Derived):
    """A source's examples, each passed through a function before views are cut out of it.

    The function runs where images are decoded, in threads or worker processes.

    Args:
      source: the examples.
      function: from an example to another; with `config.data.workers` it has to be picklable, and
        nothing random may be in it, as runs go on from where they were stopped.
      spec: what its results hold.
    """

    def __init__(self, source: Source, function: Callable[[Example], Example], spec: ExampleSpec):
        super().__init__(source)
        self.spec = spec
        self._function = function

    def read(self, index: int) -> Example:
        """Reads the example from the source; the result is what the function makes of it."""
        return self._function(self._source.read(index))
