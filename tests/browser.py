"""Chromium without a window, told what to do through a pair of pipes (Chrome's DevTools protocol): needs no package."""

import fcntl
import json
import os
import select
import shutil
import tempfile
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"]


class Browser:
    """One page of a browser of its own, of a window of `size`."""

    def __init__(self, size=(1500, 1000)):
        self.profile = tempfile.mkdtemp()
        # The browser reads from its descriptor 3 and writes to 4. Ours are moved out of the way of these.
        orders, self.orders = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        self.answers, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in os.pipe())
        window = f"--window-size={size[0]},{size[1]}"
        self.pid = os.posix_spawn(
            CHROMIUM, [CHROMIUM, *FLAGS, window, f"--user-data-dir={self.profile}", "about:blank"], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, orders, 3), (os.POSIX_SPAWN_DUP2, answers, 4),
                          (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
        os.close(orders)
        os.close(answers)
        self.sent, self.received, self.session = 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, seconds: float = 30, **parameters) -> dict:
        """Sends a command and waits for its answer."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.orders, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            while b"\0" not in self.received:
                if not select.select([self.answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise TimeoutError(f"no answer to {method} within {seconds} s")
                part = os.read(self.answers, 1 << 20)
                if not part:
                    raise EOFError(f"the browser ended before it answered {method}")
                self.received += part
            answer, self.received = self.received.split(b"\0", 1)
            answer = json.loads(answer)
            if answer.get("id") == self.sent:
                return answer["result"]

    def open(self, url: str):
        self.call("Page.navigate", url=url)

    def run(self, script: str):
        """The value of a JavaScript expression in the page; None while that can't be told."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait(self, script: str, seconds: float = 30):
        """The value as soon as it is true, or the last one."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return value

    def close(self):
        self.session = None
        self.call("Browser.close")
        os.waitpid(self.pid, 0)
        os.close(self.orders)
        os.close(self.answers)
        shutil.rmtree(self.profile, ignore_errors=True)
