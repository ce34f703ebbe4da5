"""Every skipped test by its reason, at the end of a run; one that is not in skips.txt fails the run.

A test that is skipped in silence holds nothing: all that is installed by `make install` is to be tested.
"""

import collections
import pathlib

LIST = pathlib.Path(__file__).with_name("skips.txt")


def allowed_reasons(path: pathlib.Path = LIST) -> dict:
    """{how a reason begins: why that is no loss}, of the lines `reason | why`."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict((part.strip() for part in line.split("|", 1)) for line in lines)


class Skips:
    """Counts them; pytest calls its methods."""

    def __init__(self, allowed: dict):
        self.allowed, self.counts = allowed, collections.Counter()

    def pytest_collectreport(self, report):
        self.pytest_runtest_logreport(report)

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            self.counts[report.longrepr[2].removeprefix("Skipped: ")] += 1

    def unlisted(self) -> list:
        return sorted(reason for reason in self.counts if not reason.startswith(tuple(self.allowed)))

    def pytest_sessionfinish(self, session, exitstatus):
        if self.unlisted() and exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter):
        for reason, count in sorted(self.counts.items()):
            why = next((why for beginning, why in self.allowed.items() if reason.startswith(beginning)), None)
            terminalreporter.write_line(f"{count} skipped: {reason} ({why})" if why else
                                        f"{count} SKIPPED, AND NOT IN tests/skips.txt: {reason}", red=why is None)


def pytest_configure(config):
    config.pluginmanager.register(Skips(allowed_reasons()), "listed skips")
