"""`make compatibility`: other people's test suites, on the standard library and with manyhands in its place.

Each suite of `suites.py` runs twice in an environment of its own: on the standard library, which is kept for as long
as no version changes, and with ``MANYHANDS_INSTALL=1``. A test that fails there is run alone once more: a busy
machine hides no loss. A test that passes there and not here is run alone, up to three times; when it fails each time,
it is lost. A test that is lost needs an entry with a reason in docs/compatibility.md, and an entry there a test that
is lost.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from environment import ROOT, Environment
from runs import Run, run
from suites import SUITES, Suite
from verdicts import Verdict, compare, entries, table, write_table

#: How many times a test that is about to be lost is run alone.
_ALONE = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/compatibility", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "target" / "compatibility", help="for all that is made"
    )
    parser.add_argument("--suites", nargs="+", choices=[suite.name for suite in SUITES], help="only these")
    parser.add_argument(
        "--test", action="append", help="only these tests, with manyhands alone, and show how they end"
    )
    parser.add_argument("--as-it-is", action="store_true", help="use the environment as it is")
    parser.add_argument("--write", action="store_true", help="write the table of docs/compatibility.md")
    options = parser.parse_args()
    environment = Environment(options.folder.resolve())
    if not options.as_it_is:
        environment.set_up()
    environment.check()
    wanted = [suite for suite in SUITES if options.suites is None or suite.name in options.suites]
    if options.test:
        return _show(run(wanted[0], environment, True, options.test))
    verdicts = [_judge(suite, environment) for suite in wanted]
    _, written = table()
    for verdict in verdicts:
        row = verdict.row()
        print(row, "" if written.get(verdict.suite) == row else "(not what docs/compatibility.md says)")
    if options.write:
        write_table(verdicts, platform.python_version())
    return any(verdict.failed for verdict in verdicts)


def _show(found: Run) -> int:
    for test, outcome in found.outcomes.items():
        print(f"{outcome}: {test}\n{found.texts[test]}")
    print(*found.faults, sep="\n")
    return set(found.outcomes.values()) != {"passed"}


def _judge(suite: Suite, environment: Environment) -> Verdict:
    print(f"== {suite.name}", flush=True)
    standard = _on_the_standard_library(suite, environment)
    ours = run(suite, environment, installed=True)
    for _ in range(_ALONE):
        for test in sorted(standard.passed() - ours.passed()):
            _again(suite, environment, ours, test, installed=True)
    _keep(environment.folder / "ours" / f"{suite.name}.json", ours)
    verdict = compare(suite.name, environment.version(suite.package), standard, ours, entries())
    for test, reason in verdict.lost.items():
        print(f"lost: {test}: {reason or 'NO REASON GIVEN'}")
    for name in verdict.unneeded:
        print(f"an entry for what is not lost: {name}")
    for fault in (*standard.faults, *ours.faults):
        print(f"fault: {fault}")
    return verdict


def _again(suite: Suite, environment: Environment, found: Run, test: str, installed: bool) -> None:
    alone = run(suite, environment, installed, only=[test])
    if alone.outcomes.get(test) == "passed":
        found.outcomes[test] = "passed"


def _on_the_standard_library(suite: Suite, environment: Environment) -> Run:
    path = environment.folder / "standard" / f"{suite.name}-{environment.key(suite)}.json"
    if path.exists():
        return Run(**json.loads(path.read_text()))
    found = run(suite, environment, installed=False)
    for test in sorted(found.failed()):
        _again(suite, environment, found, test, installed=False)
    if not found.faults:
        _keep(path, found)
    return found


def _keep(path: Path, found: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found), indent=1))


if __name__ == "__main__":
    sys.exit(main())
