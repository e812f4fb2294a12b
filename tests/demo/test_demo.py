"""The demonstration from end to end, on a folder of its own and as a program."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import manyhands
import pytest
from manyhands.demo.runs import Engine, digest, run_in_pool, run_serially
from manyhands.demo.sources import python_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(40):
        path = tmp_path / f"package{number % 3}" / f"module_{number:02}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"def f{number}(a):\n" + "    if a: a -= 1\n" * (number + 1))
    (tmp_path / "package0" / "broken.py").write_text("def f(:\n")
    (tmp_path / "package0" / "data.txt").write_text("not Python\n")
    return tmp_path


def nobody(_done: int) -> None:
    """Watches."""


def test_files_are_sorted_sources(folder: Path) -> None:
    paths = python_files(folder)
    assert len(paths) == 41
    assert paths == sorted(paths)
    assert all(path.endswith(".py") for path in paths)


def test_results_are_those_of_the_serial_run(ctx: Any, folder: Path) -> None:
    paths = python_files(folder)
    serial = run_serially(folder, paths, nobody)
    steps: list[int] = []
    pooled = run_in_pool(Engine("ours", ctx, manyhands.WorkerDied), folder, paths, 2, steps.append)
    assert pooled.digest() == serial.digest()
    assert pooled.losses == []
    assert steps == list(range(1, 42))


def test_a_killed_worker_costs_its_file(ctx: Any, folder: Path) -> None:
    paths = python_files(folder)
    victim = paths[20]
    serial = run_serially(folder, paths, nobody)
    run = run_in_pool(Engine("ours", ctx, manyhands.WorkerDied), folder, paths, 2, nobody, victim)
    (loss,) = run.losses
    assert loss.path == victim
    assert "was killed by SIGKILL" in loss.reason
    assert run.digest() == digest(report for report in serial.reports if report.path != victim)


def test_takes_the_standard_librarys_context_as_well(folder: Path) -> None:
    paths = python_files(folder)
    run = run_in_pool(Engine("theirs", multiprocessing.get_context("spawn")), folder, paths, 2, nobody)
    assert run.digest() == run_serially(folder, paths, nobody).digest()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_as_a_program(folder: Path, method: str) -> None:
    done = demo(str(folder), "--start-method", method, "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no progress bar for nobody
    assert "41 Python files" in done.stdout
    assert "lost: " in done.stdout
    assert "the other 40 of 41 files arrived" in done.stdout
    assert "DIFFERENT" not in done.stdout


def test_on_some_of_the_standard_library() -> None:
    done = demo("--files", "30", "--no-stdlib")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 Python files" in done.stdout


def test_without_files(tmp_path: Path) -> None:
    assert demo(str(tmp_path)).returncode == 2
    assert demo(str(tmp_path / "missing")).returncode == 2


def test_without_rich(folder: Path) -> None:
    blocked = (
        "import sys; sys.modules['rich'] = None; import manyhands.demo as d; sys.exit(d.main([sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked, str(folder)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 2
    assert "pip install 'manyhands[demo]'" in done.stderr


def demo(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-m", "manyhands.demo", *args],
        capture_output=True,
        text=True,
        timeout=50,
    )
