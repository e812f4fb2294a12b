"""docs/compatibility.md is what `make compatibility` reads its entries from, and what it writes its table into."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "compatibility"))

from runs import Run
from suites import SUITES
from verdicts import DOCUMENT, Entry, compare, entries, table, write_table

NAMES = [suite.name for suite in SUITES]


def run(**outcomes: str) -> Run:
    return Run(outcomes)


def test_the_table_has_each_suite_and_the_entries_are_of_suites() -> None:
    assert list(table()[1]) == NAMES
    assert {entry.suite for entry in entries()} <= set(NAMES)


def test_each_suite_that_loses_has_an_entry_and_no_other() -> None:
    lost = {suite for suite, row in table()[1].items() if int(row.split("|")[-2]) > 0}
    assert {entry.suite for entry in entries()} == lost


def test_a_loss_needs_an_entry_and_an_entry_a_loss() -> None:
    standard, ours = run(a="passed", b="passed", c="failed"), run(a="failed", b="passed", c="failed")
    known = [Entry("loky", "a", "on purpose"), Entry("joblib", "b", "another suite's")]
    found = compare("loky", "1.0", standard, ours, known)
    assert (found.lost, found.unneeded, found.failed) == ({"a": "on purpose"}, [], False)
    found = compare("loky", "1.0", standard, ours, [])
    assert (found.lost, found.failed) == ({"a": None}, True)
    found = compare("loky", "1.0", standard, ours, [*known, Entry("loky", "b", "once upon a time")])
    assert (found.unneeded, found.failed) == (["b"], True)


@pytest.mark.parametrize(
    ("entry", "test", "covered"),
    [
        ("t.py::A", "t.py::A::test_x", True),
        ("t.py::test_x", "t.py::test_x[1]", True),
        ("t.py::test_x", "t.py::test_xy", False),
        ("t.py::A*", "t.py::AB::test_x", True),
        ("t_*.py::A", "t_a.py::A", True),
        ("t.py::*y", "t.py::A::test_y", False),
    ],
)
def test_what_an_entry_covers(entry: str, test: str, covered: bool) -> None:
    assert Entry("loky", entry, "").covers(test) is covered


def test_rows_of_other_suites_stay_in_the_table(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(DOCUMENT.read_text())
    python = table()[0].split()[2].rstrip(":")
    verdict = compare("pebble", "0.1", run(a="passed", b="passed"), run(a="passed"), [])
    write_table([verdict], python, document)
    row = "| pebble | 0.1 | 2 | 2 | 1 | 1 |"
    assert table(document)[1] == {**table()[1], "pebble": row}
    assert document.read_text().replace(row, table()[1]["pebble"]) == DOCUMENT.read_text()
    write_table([verdict], "3.99.0", document)
    assert list(table(document)[1]) == ["pebble"]
    assert "With CPython 3.99.0:" in document.read_text()
