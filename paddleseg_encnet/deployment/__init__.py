"""A trained network outside of this package: exported, and run again."""
