"""Globals and functions of the main module that go by value again and again: which side's changes hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def _at_a_prompt(lines: str, folder: Path) -> str:
    """Each block between empty lines is typed by itself."""
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=lines, cwd=folder, capture_output=True, text=True, timeout=50
    )
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


def _as_script(text: str, folder: Path) -> str:
    (folder / "program.py").write_text(text)
    return _checked(["program.py"], folder)


def _as_command(text: str, folder: Path) -> str:
    return _checked(["-c", text], folder)


def _checked(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


WAYS = {"prompt": _at_a_prompt, "script": _as_script, "command": _as_command}


def _ways(ctx: Any) -> list[str]:
    # What a forked child of a script has is its own: it goes by name.
    return ["prompt"] if ctx.get_start_method() == "fork" else list(WAYS)


def _check(ctx: Any, text: str, expected: str, folder: Path) -> None:
    text = f"import collections, manyhands as mp\nctx = mp.get_context({ctx.get_start_method()!r})\n{text}"
    for way in _ways(ctx):
        assert (way, WAYS[way](text, folder)) == (way, expected)


CHANGED_BY_WORKERS = """
cache, log, found = {}, [0], collections.Counter()

def note(x):
    cache[x] = 1
    log.append(x)
    found[x] += 1
    return len(cache), len(log), sum(found.values())

pool = ctx.Pool(1)
print(pool.map(note, [1]), pool.map(note, [2]))
def look(_):
    return sorted(cache), log, sum(found.values())

print(pool.map(look, [1]), pool.apply(lambda: sorted(cache)))
pool.terminate()
"""


@pytest.mark.deadline(100)
def test_what_a_worker_changes_in_place_stays(ctx: Any, tmp_path: Path) -> None:
    expected = "[(1, 2, 1)] [(2, 3, 2)]\n[([1, 2], [0, 1, 2], 2)] [1, 2]\n"
    _check(ctx, CHANGED_BY_WORKERS, expected, tmp_path)


INITIALIZED = """
models, words = {}, {"a": [1]}

def init():
    models["loaded"] = True
    words["a"].append(2)

pool = ctx.Pool(1, init)
def look(_):
    return models, words

print(pool.map(look, [1]), pool.map(look, [1]))
executor = mp.ProcessPoolExecutor(1, mp_context=ctx, initializer=init)
print(executor.submit(look, 1).result(), executor.submit(look, 1).result())
executor.shutdown(); pool.terminate()
"""


@pytest.mark.deadline(100)
def test_what_an_initializer_has_filled_in_stays(ctx: Any, tmp_path: Path) -> None:
    one = "({'loaded': True}, {'a': [1, 2]})"
    _check(ctx, INITIALIZED, f"[{one}] [{one}]\n{one} {one}\n", tmp_path)


CHANGED_BY_BOTH = """
kept, data = {}, {}

def put(x):
    kept[x] = data[x] = x
    return sorted(kept), sorted(data)

pool = ctx.Pool(1)
print(pool.apply(put, (1,)), pool.apply(put, (2,)))
data["new"] = 1
def look():
    return sorted(kept), [*map(str, data)]

print(pool.apply(look))
print(pool.apply(put, (3,))[0], pool.apply(look)[1])
data = {"new": 1}
print(pool.apply(look))
pool.terminate()
"""


@pytest.mark.deadline(100)
def test_what_the_parent_changes_goes_over_it(ctx: Any, tmp_path: Path) -> None:
    """In place, or bound anew to something equal."""
    text = CHANGED_BY_BOTH.replace("sorted(data)", "len(data)")
    expected = "([1], 1) ([1, 2], 2)\n([1, 2], ['new'])\n[1, 2, 3] ['new', '3']\n([1, 2, 3], ['new'])\n"
    _check(ctx, text, expected, tmp_path)


HANDLERS = """
handlers, seen = {}, []

def handle(x):
    return x + 1

handlers["one"] = handle
pool = ctx.Pool(1)
def call(x):
    seen.append(x)
    return handlers["one"](x), len(seen)

print(pool.apply(call, (1,)), pool.apply(call, (1,)))
def handle(x):
    return x + 2

handlers["one"] = handle
print(pool.apply(call, (1,)))
pool.terminate()
"""


@pytest.mark.deadline(100)
def test_a_function_in_it_is_another_of_the_same_name(ctx: Any, tmp_path: Path) -> None:
    _check(ctx, HANDLERS, "(2, 1) (2, 2)\n(3, 3)\n", tmp_path)


NAMED = """
pool = ctx.Pool(1)

def get(function):
    return function(), vars(function)

def named(x=[1]):
    return list(x)

def count():
    count.calls = getattr(count, "calls", 0) + 1
    return count.calls

print(pool.apply(get, (named,)), pool.apply(count))
named.__defaults__[0].append(2)
print(pool.apply(get, (named,)), pool.apply(count))
named.z = [1]
print(pool.apply(get, (named,)), pool.apply(count))
named.z.append(2)
named.__defaults__ = ([5],)
print(pool.apply(get, (named,)), pool.apply(count))
count.calls = 10
print(pool.apply(count), pool.apply(count))
pool.terminate()
"""


@pytest.mark.deadline(100)
@pytest.mark.methods("forkserver", "spawn")
def test_a_named_function_that_came_by_value_is_renewed(ctx: Any, tmp_path: Path) -> None:
    """When the sender's changes; what a worker keeps on one that does not change stays there."""
    expected = "([1], {}) 1\n([1, 2], {}) 2\n([1, 2], {'z': [1]}) 3\n([5], {'z': [1, 2]}) 4\n11 12\n"
    _check(ctx, NAMED, expected, tmp_path)


@pytest.mark.deadline(100)
def test_what_is_handed_over_is_left_alone_at_a_fork(tmp_path: Path) -> None:
    """A connection that were pickled for its mark would start the thread that hands it over."""
    text = """
import threading, manyhands as mp
ctx = mp.get_context("fork")
mine, theirs = ctx.Pipe()
ends = {"theirs": theirs}
def use(): return bool(ends)

process = ctx.Process(target=use)
process.start(); process.join()
print(threading.active_count())
"""
    assert _at_a_prompt(text, tmp_path) == "1\n"
