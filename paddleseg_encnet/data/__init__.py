"""Data sets: found, read, cut, ordered and checked."""
