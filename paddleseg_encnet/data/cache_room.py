"""How much room there is for decoded images: on a disk, or in memory, whose limit a container may set."""

import os
import shutil
from typing import NamedTuple

SHARED_MEMORY = "/dev/shm"
LEFT = 0.2              # of the free memory is left to the training
# (limit, use, statistics, what of the use the system takes back when it is needed) of a container, as cgroups 2 and 1
# have it.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"))


class CacheError(ValueError):
    """There is no room for a cache, or its folder can't be used; says what is needed and where."""


class Room(NamedTuple):
    """Free bytes, and how a refusal goes on after their number."""
    free: int
    what: str
    advice: str


def gib(count: float) -> str:
    return f"{count / 2 ** 30:.2f}"


def of_disk(folder: str) -> Room:
    return Room(shutil.disk_usage(folder).free, f"are free at {folder}",
                "name a folder on a larger disk, or leave --cache out")


def of_memory(folder: str) -> Room:
    """Of shared memory, and of that which processes may take, four fifths."""
    shared, memory = shutil.disk_usage(folder).free, int((1 - LEFT) * available())
    advice = "name a folder on a disk, --cache DIR, or leave it out"
    if shared < memory:
        return Room(shared, f"of shared memory are free at {SHARED_MEMORY}, which its mount limits", advice)
    return Room(memory, f"of memory are to be had, {LEFT:.0%} less than is free", advice)


def available(meminfo: str = "/proc/meminfo", cgroups: str = "/sys/fs/cgroup") -> int:
    """Bytes of memory that processes can take before the machine, or this container, has none left."""
    free = numbers(meminfo)["MemAvailable:"] * 1024
    for limit, use, statistics, reclaimable in CGROUPS:
        limit, use, statistics = (os.path.join(cgroups, name) for name in (limit, use, statistics))
        if os.path.exists(limit) and os.path.exists(use):
            with open(limit, encoding="utf-8") as file, open(use, encoding="utf-8") as used:
                limited, taken = file.read().strip(), int(used.read())
            if limited.isdecimal():         # "max": there is none
                free = min(free, int(limited) - taken + numbers(statistics).get(reclaimable, 0))
    return max(free, 0)


def numbers(path: str) -> dict:
    """{first word: second, a number} of each line."""
    with open(path, encoding="utf-8") as file:
        return {words[0]: int(words[1]) for words in map(str.split, file) if len(words) > 1}


def folder_in_memory() -> str:
    """The name of this user's folder in shared memory.

    Raises:
        CacheError: the system has none.
    """
    if not os.path.isdir(SHARED_MEMORY):
        raise CacheError(f"--cache ram needs {SHARED_MEMORY}, which is not there: name a folder, --cache DIR")
    return os.path.join(SHARED_MEMORY, f"paddleseg_encnet-{os.getuid()}")
