"""Weights, from wherever they come, read without running anything."""
