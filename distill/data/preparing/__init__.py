"""Images written once in a form that training reads fast: `distill prepare`."""

from distill.data.preparing.preparation import Preparation, prepare
from distill.data.preparing.verification import verify

__all__ = ["Preparation", "prepare", "verify"]
