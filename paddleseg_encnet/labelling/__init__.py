"""What labelling tools wrote, as masks of class ids with lists and a config: from each tool's files to a first training."""
