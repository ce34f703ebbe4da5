"""The machine: devices, ranks, signals, files, progress."""
