"""Scaling: what a run would take on hardware that is not here."""
