"""OpenVINO's Core, of which a process has one."""

import signal
import subprocess
import sys

from exports import needs_openvino

FIRST_MADE_FIRST_ENDED = """
import gc, os, signal
from segrun import STREET, Segmenter
first, second = (Segmenter("encnet_lite0_camvid", backend="openvino") for _ in range(2))
shares = [first(STREET).shares(), second(STREET).shares()]
del first
gc.collect()
del second
gc.collect()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
os.kill(os.getpid(), signal.SIGTERM)
print(heard, shares[0] == shares[1])
"""


@needs_openvino
def test_a_signal_after_several_networks():
    """Each Core puts back, with its end, the signals' stack before it, which may be a freed one; AMX only."""
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", FIRST_MADE_FIRST_ENDED], capture_output=True,
                          text=True)
    assert done.returncode != -signal.SIGSEGV, done.stderr
    assert done.stdout == "['SIGTERM'] True\n", done.stderr
