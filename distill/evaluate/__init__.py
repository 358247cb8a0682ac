"""Measures models over data: classification, and how good frozen features are."""

from distill.evaluate.chance import warn_if_near_chance
from distill.evaluate.evaluator import Evaluator

__all__ = ["Evaluator", "warn_if_near_chance"]
