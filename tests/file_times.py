"""What every test file takes, at the end of a run: the slowest are where time is saved first."""

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

SHOWN = 10


def processor_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


class FileTimes:
    """Adds the times of the reports up by file.

    Processor time says the same on a busy machine as on an idle one; with pytest-xdist every
    worker measures its own tests and the reports carry it to the process that prints.
    """

    PROPERTY = "processor_seconds"

    def __init__(self) -> None:
        self.processor: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()
        self.passed_by = processor_seconds()

    def pytest_collection_finish(self) -> None:
        self.passed_by = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = processor_seconds()
        report.user_properties.append((self.PROPERTY, now - self.passed_by))
        self.passed_by = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self.wall[file] += report.duration
        self.processor[file] += sum(
            s for name, s in report.user_properties if name == self.PROPERTY
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self.wall) < 2:
            return
        terminalreporter.section(f"slowest {SHOWN} files of {len(self.wall)}")
        total = (
            f"{self.processor.total():.0f} s of processor time, {self.wall.total():.0f} s of wall"
        )
        terminalreporter.line(f"processor      wall; all files: {total}")
        for file, seconds in self.processor.most_common(SHOWN):
            terminalreporter.line(f"{seconds:7.1f} s {self.wall[file]:7.1f} s  {Path(file)}")
