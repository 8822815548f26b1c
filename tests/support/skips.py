"""Every test that was skipped is listed by its reason; in CI an unexpected reason is a failure.

A machine without a browser or an extra skips what needs it, which is right for a user and wrong in
CI, where nobody would be told.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict

import pytest

EXPECTED = (
    r"slow: run with --slow",
    r"Ray is not installed: .*",  # make test-ray, in an environment of its own
    r"Ray is installed",  # and there
    r"hydra-(ray|submitit)-launcher is installed",
    r"there is a GPU",
    r"the real data isn't here",  # Flickr8k, which may not be passed on
)
"""Regular expressions of all reasons for which a test may be skipped in CI."""


class SkipReport:
    """Counts skips by reason, also those of a module and of pytest-xdist's workers.

    strict  with it a reason that EXPECTED lacks ends the session with exit status 1.
    """

    def __init__(self, strict: bool):
        self.strict = strict
        self.skipped: defaultdict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # The long form of an expected failure is no triple.
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            self.skipped[reason].append(report.nodeid)

    def unexpected(self) -> list[str]:
        """Reasons, of this session's skips, that EXPECTED lacks."""
        return sorted(
            reason
            for reason in self.skipped
            if not any(re.fullmatch(expected, reason) for expected in EXPECTED)
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.strict and self.unexpected() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.skipped:
            return
        terminalreporter.section("skipped, by reason")
        for reason, skipped in sorted(self.skipped.items()):
            terminalreporter.line(f"{len(skipped):4} {reason}")
        if self.strict:
            for reason in self.unexpected():
                terminalreporter.line(f"error: unexpected skip: {reason}", red=True)
                for test in self.skipped[reason]:
                    terminalreporter.line(f"    {test}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-skip",
        action="store_true",
        default=os.environ.get("CI", "").lower() in ("1", "true"),
        help="fail if a test is skipped for an unexpected reason (with CI=true: always)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist's workers hand their reports on.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipReport(config.getoption("--fail-on-skip")))
