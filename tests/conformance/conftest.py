"""What the tests of the executor get, besides what every test gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executors import executor_of
from lockers import Remote


@pytest.fixture
def make_executor(ctx: Any) -> Iterator[Any]:
    """Makes executors; they are shut down afterwards."""
    made = []

    def executor(*args: Any, **kwargs: Any) -> Any:
        made.append(executor_of(ctx)(*args, mp_context=ctx, **kwargs))
        return made[-1]

    yield executor
    for each in made:
        each.shutdown()
    made.clear()


@pytest.fixture
def executor(make_executor: Any) -> Any:
    return make_executor(2)


@pytest.fixture
def gate(ctx: Any) -> Iterator[Any]:
    """What calls wait for, as an initializer's argument; open at the end, whatever happened."""
    event = ctx.Event()
    yield event
    event.set()


@pytest.fixture
def file_gate(tmp_path: Path) -> Path:
    """What `targets.until_gone` waits for; a test unlinks it."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.fixture
def remote(ctx: Any) -> Iterator[Any]:
    """Makes processes that have been given some objects and call their methods when told to; see `lockers.Remote`."""
    made = []

    def start(*things: Any) -> Remote:
        made.append(Remote(ctx, *things))
        return made[-1]

    yield start
    for each in made:
        each.end()
    made.clear()
