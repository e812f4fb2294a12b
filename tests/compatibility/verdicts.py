"""Compares how a suite's tests ended on the standard library and with manyhands, and which losses have a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runs import Run

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"

_TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end of table -->)", re.DOTALL)
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

    @property
    def unexcused(self) -> list[str]:
        return [test for test, reason in self.lost.items() if reason is None]

    @property
    def failed(self) -> bool:
        return bool(self.unexcused or self.ours.faults or self.standard.faults)

    def row(self) -> str:
        passed = len(self.standard.passed()), len(self.ours.passed())
        tests = len(self.standard.outcomes.keys() | self.ours.outcomes.keys())
        return f"| {self.suite} | {self.version} | {tests} | {passed[0]} | {passed[1]} | {len(self.lost)} |"


def compare(suite: str, version: str, standard: Run, ours: Run, known: list[Entry]) -> Verdict:
    """Find what is lost."""
    lost: dict[str, str | None] = {}
    for test in sorted(standard.passed() - ours.passed()):
        reasons = [entry.reason for entry in known if entry.suite == suite and entry.covers(test)]
        lost[test] = reasons[0] if reasons else None
    return Verdict(suite, version, standard, ours, lost)


def write_table(verdicts: list[Verdict], python: str, document: Path = DOCUMENT) -> None:
    """Put these rows into the document's table."""
    rows = [
        f"With CPython {python}:",
        "",
        "| suite | version | tests | pass on the standard library | pass with manyhands | lost |",
        "|---|---|---|---|---|---|",
        *(verdict.row() for verdict in verdicts),
        "",
    ]
    text = document.read_text(encoding="utf-8")
    document.write_text(
        _TABLE.sub(lambda found: found[1] + "\n".join(rows) + found[2], text), encoding="utf-8"
    )
