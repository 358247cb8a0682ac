"""Trained models for other programs, each checked in the program it is for before it appears."""
