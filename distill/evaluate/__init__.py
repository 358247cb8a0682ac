"""Measures models over data: classification, and how good frozen features are."""

from distill.evaluate.chance import warn_if_near_chance
from distill.evaluate.evaluator import Evaluator, PerExample

__all__ = ["Evaluator", "PerExample", "warn_if_near_chance"]
