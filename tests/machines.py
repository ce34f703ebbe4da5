"""Machines of their own for tests, as far as a network goes: processes in network namespaces, joined by a bridge.
A script calls enter() first.

Needs Linux, ip(8) of iproute2, unshare(1) of util-linux, and the right to make namespaces: root, or a kernel that gives
users namespaces of their own.
"""

import collections
import ctypes
import fcntl
import itertools
import os
import pathlib
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Callable, List, Optional

CLONE_NEWNET = 0x40000000                       # linux/sched.h
PR_SET_PDEATHSIG = 1                            # linux/prctl.h
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000      # linux/if_tun.h
FRAME = 2048
INSIDE = "TEST_MACHINES_INSIDE"


def enter() -> Optional[str]:
    """Starts this script again in a network of its own, in which only the machines' bridge will be. Returns None there,
    and why not where that is not allowed."""
    if INSIDE in os.environ:
        ip("link", "add", "bridge0", "type", "bridge")
        ip("link", "set", "bridge0", "up")
        return None
    namespace = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    try:
        tried = subprocess.run([*namespace, "ip", "link", "add", "bridge0", "type", "bridge"], capture_output=True,
                               text=True)
    except FileNotFoundError as error:
        return f"there is no {error.filename} here"
    if tried.returncode:
        return f"namespaces with a bridge are not allowed here: {tried.stderr.strip()}"
    os.environ[INSIDE] = "1"
    os.execvp("unshare", [*namespace, sys.executable, *sys.argv])


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True)


def tap(name: str) -> int:
    """File descriptor of a new network interface; frames that leave it are read there, and those written there come."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


class SlowCable:
    """A process that carries frames between two taps, and from slow() on each of them later, or not at all.

    It stands for tc-netem, which many kernels lack. Frames are delayed and lost one by one and in both directions,
    below TCP, which therefore sends again and backs off as on a bad line.
    """

    def __init__(self, fds: tuple, delay: float, loss: float, seed: int):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                self.slowed = False
                signal.signal(signal.SIGUSR1, lambda *signum: setattr(self, "slowed", True))
                self.carry(fds, delay, loss, random.Random(seed))
            finally:
                os._exit(1)
        for fd in fds:
            os.close(fd)

    def carry(self, fds: tuple, delay: float, loss: float, chance: random.Random):
        other, waiting, poll = {fds[0]: fds[1], fds[1]: fds[0]}, collections.deque(), select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        while True:
            until = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 3600.0
            for fd, _ in poll.poll(until * 1000):
                frame = os.read(fd, FRAME)
                if not (self.slowed and chance.random() < loss):
                    waiting.append((time.monotonic() + delay * self.slowed, other[fd], frame))
            while waiting and waiting[0][0] <= time.monotonic():
                _, fd, frame = waiting.popleft()
                try:
                    os.write(fd, frame)
                except OSError:     # the interface is down, or its machine gone
                    continue

    def slow(self):
        os.kill(self.pid, signal.SIGUSR1)

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Machine:
    """A namespace with one interface, eth0, at `address`; in it a fork of this process that runs `work`, and what that
    starts. With `slow_cable`, its arguments, the machine hangs on such a cable."""

    ports = itertools.count()       # an interface's name may be taken for a while after its machine has gone

    def __init__(self, address: str, log: pathlib.Path, work: Callable[[], None], slow_cable: tuple = None):
        self.outside, self.log, self.cable, self.code = f"port{next(self.ports)}", log, None, None
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                self.boot(address, theirs, slow_cable is not None)
                work()
            finally:        # no exception leaves a fork into the caller's code
                os._exit(1)
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)      # it is in its namespace
        if slow_cable is not None:
            self.cable = SlowCable((fds[0], tap(self.outside)), *slow_cable)
        else:
            ip("link", "add", self.outside, "type", "veth", "peer", "name", "eth0", "netns", self.pid)
        ip("link", "set", self.outside, "master", "bridge0", "up")
        self.network = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        ours.sendall(b"connected")
        ours.close()

    def boot(self, address: str, parent: socket.socket, slow_cable: bool):
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.setsid()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        if slow_cable:
            fd = tap("eth0")
            socket.send_fds(parent, [b"\0"], [fd])
            os.close(fd)
        else:
            parent.sendall(b"\0")
        assert parent.recv(20) == b"connected"
        parent.close()
        ip("link", "set", "lo", "up")
        ip("address", "add", f"{address}/24", "dev", "eth0")
        ip("link", "set", "eth0", "up")

    def processes(self) -> List[int]:
        """All that run on it."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.stat(path / "ns" / "net").st_ino == self.network:
                    found.append(int(path.name))
            except OSError:     # it has ended
                continue
        return found

    def signal(self, signum: int, everything: bool = True):
        """To the process that `work` runs in, and with `everything` to all others of the machine."""
        for pid in self.processes() if everything else [self.pid]:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue

    def cut(self):
        """Pulls the cable at the bridge, where it is still in: a namespace ends with its last process."""
        subprocess.run(["ip", "link", "set", self.outside, "down"], stderr=subprocess.DEVNULL)

    def ended(self) -> bool:
        """Whether the process that `work` ran in has; `code` is how."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def close(self):
        """Ends all that runs on it, and takes it from the bridge."""
        self.signal(signal.SIGKILL)
        while not self.ended():
            time.sleep(0.01)
        while self.processes():
            time.sleep(0.01)
        # What the kernel has still to send keeps the namespace, and its address, for a while.
        if self.cable:
            self.cable.close()
        else:
            subprocess.run(["ip", "link", "delete", self.outside], stderr=subprocess.DEVNULL)   # else it has gone
