"""All that a config means: which file it is, what it is overridden with, what follows from it, whether it can be built.

building.read_config() is the way to one.
"""
