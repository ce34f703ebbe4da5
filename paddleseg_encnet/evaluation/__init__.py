"""Scores of a network on a set."""
