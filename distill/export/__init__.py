"""Trained models for other programs: SavedModel."""
