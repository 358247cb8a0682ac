"""Finished models for whoever has images: runs, published weights and exports, used alike."""
