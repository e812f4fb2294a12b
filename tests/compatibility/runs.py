"""Runs a suite in pytests of its own until each test has an outcome, and ends whatever that left running."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from environment import Environment
from plugin.recorder import LEFT_OUT, ONLY, RECORD
from suites import Suite

HERE = Path(__file__).parent

#: In the environment of everything that a run starts: how what it left behind is found.
_MARK = "MANYHANDS_COMPATIBILITY_RUN"
#: What a suite's own runs would set, or what would change what it finds.
_UNSET = (
    "PYTHON",
    "PYTEST",
    "JOBLIB",
    "LOKY",
    "DASK",
    "MANYHANDS",
    "COV",
    "COVERAGE",
    "OMP",
    "MKL",
    "VIRTUAL_ENV",
)
#: How long pytest may take beside its tests (imports, collection), in seconds.
_BESIDE = 180
#: How many times a suite's pytest may die before the rest is given up.
_DEATHS = 20


@dataclass
class Run:
    """How the tests of a suite ended."""

    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    #: What was wrong with the run itself.
    faults: list[str] = field(default_factory=list)

    def passed(self) -> set[str]:
        return self._ended("passed")

    def failed(self) -> set[str]:
        return self._ended("failed")

    def _ended(self, how: str) -> set[str]:
        return {name for name, outcome in self.outcomes.items() if outcome == how}


def run(suite: Suite, environment: Environment, installed: bool, only: Collection[str] | None = None) -> Run:
    """Run the suite, or only those tests of it, on the standard library or with manyhands installed in its place."""
    found = Run()
    until = time.monotonic() + suite.suite_seconds
    with _scratch() as scratch:
        for _ in range(_DEATHS):
            if _one_pytest(suite, environment, installed, only, scratch, found, until):
                break
            if time.monotonic() > until:
                found.faults.append(f"not done after {suite.suite_seconds} s")
                break
        else:
            found.faults.append(f"pytest died {_DEATHS} times")
    return found


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for everything temporary. Its name is short: the paths of sockets may be no longer than 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="mh-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _one_pytest(
    suite: Suite,
    environment: Environment,
    installed: bool,
    only: Collection[str] | None,
    scratch: Path,
    found: Run,
    until: float,
) -> bool:
    """Run what has no outcome yet; whether pytest came to its end."""
    record, log = scratch / "record", scratch / "log"
    record.write_text("")
    (scratch / "tmp").mkdir(exist_ok=True)
    variables = _variables(environment, installed, scratch)
    variables[RECORD] = str(record)
    _list(variables, LEFT_OUT, scratch / "left_out", found.outcomes)
    if only is not None:
        _list(variables, ONLY, scratch / "only", only)
    folder, paths = environment.tests_of(suite)
    pytest = [str(environment.python), "-m", "pytest", *_arguments(suite, folder), *paths]
    command = [*_private_shared_memory(), *pytest]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            _watch(process, record, suite, until)
        finally:
            process.kill()
            process.wait()
            _end_all(variables[_MARK])
    return _read(record, log, process.returncode, found)


@functools.cache
def _private_shared_memory() -> tuple[str, ...]:
    """What goes before a command so that it has a ``/dev/shm`` of its own, where this user may mount one.

    What a killed test leaves there goes with it, and nobody else's leftovers are seen.
    """
    command = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode
    ):
        return ()
    return command


def _variables(environment: Environment, installed: bool, scratch: Path) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    variables["PATH"] = f"{environment.python.parent}{os.pathsep}{variables.get('PATH', os.defpath)}"
    variables["TMPDIR"] = variables["JOBLIB_TEMP_FOLDER"] = str(scratch / "tmp")
    variables["PYTHONPATH"] = str(HERE / "plugin")
    variables["PYTHONFAULTHANDLER"] = "1"
    variables[_MARK] = str(scratch)
    if installed:
        variables["MANYHANDS_INSTALL"] = "1"
    return variables


def _list(variables: dict[str, str], variable: str, path: Path, names: Collection[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    variables[variable] = str(path)


def _arguments(suite: Suite, folder: Path) -> list[str]:
    return [
        f"--rootdir={folder}",
        # Neither our settings and conftest files nor the suite's: those ask for doctests, colours and coverage.
        f"--config-file={HERE / 'pytest.ini'}",
        f"--confcutdir={folder}",
        "--import-mode=prepend",
        f"--timeout={suite.test_seconds}",
        "--timeout-method=signal",
        "--quiet",
        # Python 3.11 cannot always parse a source in the depths of a stack.
        "--tb=native",
        "-p",
        "recorder",
        *suite.arguments,
    ]


def _watch(process: subprocess.Popen[bytes], record: Path, suite: Suite, until: float) -> None:
    """Wait for its end, as long as it makes progress."""
    patience = suite.test_seconds * 2 + _BESIDE
    size, since = -1, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return
        now = time.monotonic()
        if record.stat().st_size != size:
            size, since = record.stat().st_size, now
        if now - since > patience or now > until:
            return


def _end_all(mark: str) -> None:
    """Kill every process that the run started, whosever child it has become."""
    while pids := list(_marked(mark)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{_MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        # Of processes that are none of ours, the environment cannot be read; of those that have ended, it is empty.
        with contextlib.suppress(OSError, ValueError):
            if wanted in Path("/proc", str(int(name)), "environ").read_bytes().split(b"\0"):
                yield int(name)


def _read(record: Path, log: Path, status: int, found: Run) -> bool:
    """Add what was written down; whether pytest came to its end."""
    begun, ended = None, False
    for line in record.read_text(encoding="utf-8").splitlines():
        noted = json.loads(line)
        if "begun" in noted:
            begun = noted["begun"]
        elif "ended" in noted:
            ended = True
            if noted["ended"] not in (0, 1, 5):
                found.faults.append(f"pytest ended with {noted['ended']}: {_tail(log)}")
        else:
            begun = None
            found.outcomes[noted["test"]] = noted["outcome"]
            found.texts[noted["test"]] = noted["text"]
    if begun is not None:
        found.outcomes[begun] = "failed"
        found.texts[begun] = f"pytest ended with {status} in this test: {_tail(log)}"
        return False
    if not ended and not found.outcomes:
        found.faults.append(f"pytest ended with {status} before its first test: {_tail(log)}")
    # Killed between two tests, or when all were done: nothing is missing that another run would not find.
    return ended or not record.stat().st_size


def _tail(log: Path) -> str:
    return log.read_bytes()[-4000:].decode(errors="replace")
