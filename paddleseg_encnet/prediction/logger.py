"""What is said of a video: by PaddleSeg's logger, or as plain lines in tools/infer.py, which runs without PaddleSeg."""

import sys


def info(line: str):
    say("info", line)


def warning(line: str):
    say("warning", line)


def say(level: str, line: str):
    logger = sys.modules.get("paddleseg.utils.logger")
    if logger is None:
        print(line if level == "info" else f"{level}: {line}", flush=True)
    else:
        getattr(logger, level)(line)
