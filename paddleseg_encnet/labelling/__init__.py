"""What labelling tools wrote, as masks of class ids with lists and a config: from a tool's files to a training."""
