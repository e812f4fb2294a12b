"""Workers that die on an item: it is the item that is lost, and nothing else."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import manyhands
import pytest
import targets
from processes import describe, kill, wait_gone

# The issue asks for 2 s; that figure is printed. This is against a loaded machine.
MOST_SECONDS = 10.0
LONG = 50.0
COUNT = 1000
VICTIM = 437

# What `WorkerDied` tells for each way: exit code and signal.
WAYS = {
    "SIGKILL": (-signal.SIGKILL, "SIGKILL"),
    "os._exit": (3, None),
    "segfault": (-signal.SIGSEGV, "SIGSEGV"),
}


@pytest.fixture
def pool(ctx: Any) -> Iterator[Any]:
    with ctx.Pool(2) as pool:
        yield pool
        pool.terminate()
        pool.join()


@pytest.fixture
def dying(tmp_path: Path) -> Callable[..., targets.Dying]:
    def make(way: str = "SIGKILL", victims: Any = (VICTIM,)) -> targets.Dying:
        return targets.Dying(way, victims, str(tmp_path / "record"))

    return make


def died_at(task: targets.Dying) -> float:
    return float(Path(task.record).read_text())


def is_usable(pool: Any) -> bool:
    return bool(pool.map(targets.square, range(100)) == [n * n for n in range(100)])


class Outcome:
    """What came back of a call: results, deaths, and when the first death was reported."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.deaths: list[Any] = []
        self.reported_at = 0.0

    def add(self, get: Callable[[], int]) -> None:
        try:
            self.results.append(get())
        except manyhands.WorkerDied as death:
            self.reported_at = self.reported_at or time.monotonic()
            self.deaths.append(death)


def through_imap_unordered(pool: Any, task: Any, count: int) -> Outcome:
    outcome = Outcome()
    results = pool.imap_unordered(task, range(count))
    try:
        while True:
            outcome.add(lambda: results.next(LONG))
    except StopIteration:
        return outcome


def through_apply_async(pool: Any, task: Any, count: int) -> Outcome:
    outcome = Outcome()
    for call in [pool.apply_async(task, (n,)) for n in range(count)]:
        outcome.add(lambda call=call: call.get(LONG))  # type: ignore[misc]
    return outcome


@pytest.mark.parametrize(
    "through", [through_imap_unordered, through_apply_async], ids=lambda call: call.__name__[8:]
)
@pytest.mark.parametrize("way", WAYS)
def test_one_death_costs_one_item_of_a_thousand(
    pool: Any, dying: Any, figure: Any, way: str, through: Any
) -> None:
    task = dying(way)
    outcome = through(pool, task, COUNT)

    assert len(outcome.deaths) == 1
    assert sorted(outcome.results) == [n * n for n in range(COUNT) if n != VICTIM]
    delay = outcome.reported_at - died_at(task)
    figure(f"the error came {delay * 1000:.1f} ms after the death")
    assert delay < MOST_SECONDS

    (death,) = outcome.deaths
    assert isinstance(death, BrokenProcessPool)
    assert (death.exitcode, death.signal) == WAYS[way]
    assert isinstance(death.pid, int)
    assert str(death.pid) in str(death)
    if through is through_imap_unordered:
        assert death.item == VICTIM
    wait_gone([death.pid])
    assert is_usable(pool)


@pytest.mark.parametrize("way", WAYS)
def test_map_raises_when_everything_else_is_done(pool: Any, dying: Any, way: str) -> None:
    with pytest.raises(manyhands.WorkerDied) as caught:
        pool.map(dying(way), range(COUNT))
    assert caught.value.item == VICTIM
    assert is_usable(pool)


def test_each_death_costs_its_item(pool: Any, dying: Any) -> None:
    victims = range(50, COUNT, 100)
    outcome = through_imap_unordered(pool, dying(victims=victims), COUNT)
    assert sorted(death.item for death in outcome.deaths) == list(victims)
    assert sorted(outcome.results) == [n * n for n in range(COUNT) if n not in victims]
    assert is_usable(pool)


def test_nothing_but_deaths(pool: Any, dying: Any) -> None:
    outcome = through_imap_unordered(pool, dying(victims=range(12)), 12)
    assert outcome.results == []
    assert sorted(death.item for death in outcome.deaths) == list(range(12))
    assert is_usable(pool)


def test_an_idle_worker_is_replaced(ctx: Any) -> None:
    with ctx.Pool(1) as pool:
        before = pool.apply_async(targets.pid).get(LONG)
        kill(before)
        wait_gone([before])
        after = pool.apply_async(targets.pid).get(LONG)
        assert after != before
        assert is_usable(pool)


def test_error_callback_hears_of_it(pool: Any, dying: Any) -> None:
    heard: list[Any] = []
    call = pool.apply_async(dying(), (VICTIM,), error_callback=heard.append)
    with pytest.raises(manyhands.WorkerDied):
        call.get(LONG)
    assert [type(error) for error in heard] == [manyhands.WorkerDied]
    assert not call.successful()


def test_close_and_join_after_a_death(ctx: Any, dying: Any) -> None:
    pool = ctx.Pool(2)
    calls = [pool.apply_async(dying(), (n,)) for n in (1, VICTIM, 2)]
    pool.close()
    pool.join()
    assert [call.ready() for call in calls] == [True, True, True]
    assert [call.successful() for call in calls] == [True, False, True]


def test_a_segfault_with_core_dumps(ctx: Any, dying: Any, figure: Any, tmp_path: Path) -> None:
    task = dying("segfault")
    with ctx.Pool(2, targets.allow_core_dumps, (str(tmp_path),)) as pool:
        outcome = through_imap_unordered(pool, task, COUNT)
        assert len(outcome.deaths) == 1
        assert len(outcome.results) == COUNT - 1
        delay = outcome.reported_at - died_at(task)
        dumped = sum(path.stat().st_size for path in tmp_path.glob("*core*"))
        figure(
            f"the error came {delay * 1000:.1f} ms after the death; {dumped / 1e6:.1f} MB of core file here"
        )
        assert delay < MOST_SECONDS, describe(outcome.deaths[0].pid)
        assert is_usable(pool)
