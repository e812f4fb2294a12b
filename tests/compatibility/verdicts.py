"""Compares how a suite's tests ended on the standard library and with manyhands, and holds docs/compatibility.md to it:
each loss has an entry there with a reason, each entry a loss, and the table is what was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runs import Run
from suites import SUITES

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"

_TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
_ROW = re.compile(r"^\| ([^|]+?) \| [0-9].*\|$", re.MULTILINE)
_ENTRY = re.compile(r"^- `([^`]+)`: (.+)$", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """Tests that may be lost, and the reason. In their name ``*`` stands for anything but a new part of the name."""

    suite: str
    name: str
    reason: str

    def covers(self, test: str) -> bool:
        # A class stands for its tests, a test for its parameters; but `test_a` is not `test_ab`.
        pattern = re.escape(self.name).replace(r"\*", "[^:]*")
        return re.match(rf"{pattern}(?:$|\[|::)", test) is not None


def entries(document: Path = DOCUMENT) -> list[Entry]:
    """The entries of the document: below a heading with the suite's name, lists such as "- `test`: reason"."""
    found, suite = [], ""
    # A line that is indented goes on with the one before.
    text = re.sub(r"\n +", " ", document.read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line.startswith("#"):
            suite = line[4:].strip() if line.startswith("### ") else ""
        elif suite and (entry := _ENTRY.match(line)):
            found.append(Entry(suite, entry[1], entry[2]))
    return found


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one suite."""

    suite: str
    version: str
    standard: Run
    ours: Run
    #: Tests that pass on the standard library alone, each with the reason if there is one.
    lost: dict[str, str | None]
    #: Names of entries for this suite that none of these needs.
    unneeded: list[str]

    @property
    def unexcused(self) -> list[str]:
        return [test for test, reason in self.lost.items() if reason is None]

    @property
    def failed(self) -> bool:
        return bool(self.unexcused or self.unneeded or self.ours.faults or self.standard.faults)

    def row(self) -> str:
        passed = len(self.standard.passed()), len(self.ours.passed())
        tests = len(self.standard.outcomes.keys() | self.ours.outcomes.keys())
        return f"| {self.suite} | {self.version} | {tests} | {passed[0]} | {passed[1]} | {len(self.lost)} |"


def compare(suite: str, version: str, standard: Run, ours: Run, known: list[Entry]) -> Verdict:
    """Find what is lost."""
    known = [entry for entry in known if entry.suite == suite]
    lost: dict[str, str | None] = {}
    for test in sorted(standard.passed() - ours.passed()):
        reasons = [entry.reason for entry in known if entry.covers(test)]
        lost[test] = reasons[0] if reasons else None
    unneeded = [entry.name for entry in known if not any(map(entry.covers, lost))]
    return Verdict(suite, version, standard, ours, lost, unneeded)


def table(document: Path = DOCUMENT) -> tuple[str, dict[str, str]]:
    """What is above the rows of the document's table, and its rows by suite."""
    found = _TABLE.search(document.read_text(encoding="utf-8"))
    assert found is not None, f"{document} has no table"
    rows = {row[1]: row[0] for row in _ROW.finditer(found[0])}
    return found[0].split("|")[0].removeprefix(found[1]), rows


def write_table(verdicts: list[Verdict], python: str, document: Path = DOCUMENT) -> None:
    """Put these rows into the document's table; those of other suites stay, if they are of the same Python."""
    above, rows = table(document)
    heading = f"With CPython {python}:\n\n"
    if above != heading:
        rows = {}
    rows.update((verdict.suite, verdict.row()) for verdict in verdicts)
    lines = [
        "| suite | version | tests | pass on the standard library | pass with manyhands | lost |",
        "|---|---|---|---|---|---|",
        *(rows[suite.name] for suite in SUITES if suite.name in rows),
        "",
    ]
    text = document.read_text(encoding="utf-8")
    written = _TABLE.sub(lambda found: found[1] + heading + "\n".join(lines) + "\n" + found[2], text)
    document.write_text(written, encoding="utf-8")
