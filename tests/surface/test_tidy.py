"""The house itself: sizes, names, links, waypoints. What a reader would trip over."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 600
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}
# A name of the standard library's package is its own reason.
STANDARD_NAMES = {"python/manyhands/util.py"}
# Generated, a text that is not ours to shorten, or the one list of what the one extension module has.
ANY_LENGTH = {"Cargo.lock", "LICENSE-APACHE", "python/manyhands/_manyhands.pyi"}


def tracked() -> list[str]:
    """What git has, or would take: leftovers of a build are no part of the house."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(name for name in set(names) if (ROOT / name).is_file())


def text(name: str) -> str:
    return (ROOT / name).read_text(errors="replace")


def test_no_file_is_too_long() -> None:
    long = {name: count for name in tracked() if (count := text(name).count("\n")) > MOST_LINES}
    assert {name: count for name, count in long.items() if name not in ANY_LENGTH} == {}


def test_no_file_has_a_vague_name() -> None:
    vague = [name for name in tracked() if VAGUE & {Path(name).stem, *Path(name).parent.parts}]
    assert [name for name in vague if name not in STANDARD_NAMES] == []


def test_no_path_of_a_machine() -> None:
    # Split, so that this file does not find itself.
    pattern = re.compile("/(?:ho" + r"me|Users|ro" + r"ot|wo" + r"rk)/[\w.]+" + r"|/t" + r"mp/[\w.]+")
    found = [
        f"{name}:{number}: {match.group()}"
        for name in tracked()
        for number, line in enumerate(text(name).splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == []


# What decides: pure functions, so that a test can try every order of events.
PURE = ("crates/manyhands/src/pool/scheduler.rs", "crates/manyhands/src/pool/chunk.rs")
OUTSIDE = (
    r"\b(Instant|SystemTime|rustix|libc|unsafe|crate|manyhands_sync|sys"
    r"|std::(?!collections\b|cmp\b|ops\b|time::Duration\b)\w+)\b"
)


@pytest.mark.parametrize("name", PURE)
def test_decisions_have_no_clock_no_system_call_and_no_shared_memory(name: str) -> None:
    code = re.sub(r"//.*", "", text(name).split("#[cfg(test)]")[0])
    assert re.findall(OUTSIDE, code) == []


# Where the engine holds a ring's lock: what stands there is reviewed for what runs under it.
HOLDERS = {
    "crates/manyhands/src/pool/mod.rs",
    "crates/manyhands/src/pool/worker.rs",
    "crates/manyhands/src/queue.rs",
    "crates/manyhands/src/queue_many.rs",
}


def test_no_lock_in_shared_memory_reaches_python() -> None:
    """The extension has no crate from which it could have one, and the engine lets none out of a call."""
    assert "manyhands-sync" not in text("crates/manyhands-python/Cargo.toml")
    engine = {name for name in tracked() if re.match(r"crates/manyhands/src/.*(?<!tests)\.rs$", name)}
    holders = {name for name in engine if re.search(r"\b(taking|putting|taking_with)\(", text(name))}
    assert holders == HOLDERS
    public = r"pub (?:fn|struct|enum|use|type)[^{;]*\b(Taking|Putting|Guard|RobustMutex)\b"
    assert [name for name in engine if re.search(public, text(name))] == []


def anchors(markdown: str) -> set[str]:
    """The headings of a file, as they are linked to."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", markdown, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def test_links_lead_somewhere() -> None:
    broken = []
    for name in tracked():
        if not name.endswith(".md"):
            continue
        prose = re.sub(r"```.*?```", "", text(name), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (ROOT / name).parent / file if file else ROOT / name
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{name}: {link}")
    assert broken == []


WAYPOINT = re.compile(r"WAYPOINT (message|task) (\d+)/(\d+)")
JOURNEYS = ROOT / "docs" / "journeys.md"


@pytest.mark.parametrize("journey", ["message", "task"])
def test_waypoints_are_whole(journey: str) -> None:
    """Each step from 1 to n is in the sources exactly once, and docs/journeys.md walks them in order."""
    steps: list[tuple[int, int]] = []
    for name in tracked():
        if name.startswith(("crates/", "python/")):
            steps += [
                (int(at), int(of)) for which, at, of in WAYPOINT.findall(text(name)) if which == journey
            ]
    count = len(steps)
    assert sorted(steps) == [(number, count) for number in range(1, count + 1)]
    if JOURNEYS.exists():
        told = [int(at) for which, at, _ in WAYPOINT.findall(JOURNEYS.read_text()) if which == journey]
        assert told == list(range(1, count + 1))
