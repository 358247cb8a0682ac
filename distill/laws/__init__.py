"""Scaling laws: sizes × durations trained, and error against compute fitted."""
