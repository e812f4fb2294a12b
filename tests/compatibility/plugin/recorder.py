"""A pytest plugin: writes down each test as it begins and as it ends, so that a run that dies is no run that is lost.

`runs.py` loads it into the pytest of a suite, with the environment variables below. It imports nothing that the suite
could be about.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

#: The file to which lines are added.
RECORD = "MANYHANDS_COMPATIBILITY_RECORD"
#: A file with the names of tests that are not to be run, a line each.
LEFT_OUT = "MANYHANDS_COMPATIBILITY_LEFT_OUT"
#: A file with the names of the only tests to be run, a line each.
ONLY = "MANYHANDS_COMPATIBILITY_ONLY"

_WORST = ("passed", "skipped", "failed")


def _write(**line: object) -> None:
    # One write each: forked children of a test that come back into pytest cannot tear a line apart.
    with open(os.environ[RECORD], "ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def _names(variable: str) -> set[str] | None:
    path = os.environ.get(variable)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return set(file.read().splitlines())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out, only = _names(LEFT_OUT) or set(), _names(ONLY)
    kept = [item for item in items if item.nodeid not in left_out and (only is None or item.nodeid in only)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


class _Recorder:
    """Puts a test's reports (set up, call, tear down) together: the worst of them is how it ended."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._outcome = "passed"
        self._text = ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._outcome, self._text = "passed", ""
        if os.getpid() == self._pid:
            _write(begun=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        expected = hasattr(report, "wasxfail")
        outcome = "skipped" if expected and report.outcome != "passed" else report.outcome
        if _WORST.index(outcome) > _WORST.index(self._outcome):
            self._outcome = outcome
            self._text = report.longreprtext[-8000:] if outcome == "failed" else ""

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if os.getpid() == self._pid:
            _write(test=nodeid, outcome=self._outcome, text=self._text)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            _write(test=f"{report.nodeid} (collection)", outcome="failed", text=report.longreprtext[-8000:])

    def pytest_sessionfinish(self, exitstatus: Any) -> None:
        if os.getpid() == self._pid:
            _write(ended=int(exitstatus))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Recorder(), "manyhands-recorder")
