"""The papers' claims, redone at the scale of a laptop; a claim a file."""
