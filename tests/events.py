"""Waiting for an event instead of for a time."""

import time
from typing import Callable

DEADLINE = 60       # seconds; of a machine that does other things too


def wait_for(condition: Callable, goes_on: Callable[[], bool] = lambda: True, seconds: float = DEADLINE):
    """condition() as soon as it is true. Fails when it is not after so many seconds, or when what it waits for ends:
    goes_on() is no longer true."""
    deadline = time.monotonic() + seconds
    while True:
        going = goes_on()       # before: the condition may come true with the end
        found = condition()
        if found:
            return found
        assert going, "what was waited for has ended"
        assert time.monotonic() < deadline, f"this did not happen within {seconds:g} s"
        time.sleep(0.01)
