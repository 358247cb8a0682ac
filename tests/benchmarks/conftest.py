"""Benchmarks are not installed: tests import them from the repository."""

import sys

from support import REPOSITORY

sys.path.insert(0, str(REPOSITORY))
