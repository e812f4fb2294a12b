"""Arrays and other long objects through queues, pools and executors: what arrives, and whose it is."""

from __future__ import annotations

import array
import gc
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import arrays
import pytest

numpy: Any = pytest.importorskip("numpy")

pytestmark = pytest.mark.standard

LONG = 30.0
MIB = 1 << 20

STRUCTURED = [("number", "i4"), ("name", "S10"), ("pair", "f8", (2,))]


def plain(count: int = 100_000) -> Any:
    return numpy.arange(count, dtype="f8")


def read_only() -> Any:
    made = plain()
    made.flags.writeable = False
    return made


def structured() -> Any:
    made = numpy.zeros(10_000, STRUCTURED)
    made["number"] = numpy.arange(10_000)
    made["name"] = b"name"
    return made


ARRAYS: dict[str, Callable[[], Any]] = {
    "plain": plain,
    "matrix": lambda: plain().reshape(100, 1_000),
    "fortran": lambda: numpy.asfortranarray(plain().reshape(100, 1_000)),
    "slice": lambda: plain()[10_000:60_000],
    "every other": lambda: plain()[::2],
    "backwards": lambda: plain()[::-1],
    "columns": lambda: plain().reshape(100, 1_000)[:, 100:300],
    "read-only": read_only,
    "empty": lambda: plain(0),
    "empty rows": lambda: numpy.zeros((0, 5)),
    "scalar": lambda: numpy.array(7.5),
    "just short": lambda: numpy.arange((64 << 10) - 1, dtype="u1"),
    "just long": lambda: numpy.arange(64 << 10, dtype="u1"),
    "structured": structured,
    "objects": lambda: numpy.array([1, "two", None, (3, 4)] * 10_000, dtype=object),
    "strings": lambda: numpy.array(["a string", "ü"] * 20_000),
    "dates": lambda: numpy.arange("2000-01", "2900-01", dtype="M8[D]"),
}

TEXT = "0123456789" * 20_000

OTHERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: os.urandom(300_000),
    "text": lambda: TEXT,
    "long characters": lambda: "ü€𝄞" * 50_000,
    "half characters": lambda: "\ud800x" * 50_000,
    "bytearray": lambda: bytearray(os.urandom(300_000)),
    "array": lambda: array.array("d", range(50_000)),
    "bytes in bytes": lambda: arrays.LongBytes(os.urandom(200_000)),
    "text in text": lambda: arrays.LongText(TEXT),
    "several": lambda: [os.urandom(100_000), TEXT, bytearray(100_000), 1, {"x": bytes(70_000)}],
    "many small": lambda: [str(number) * 3 for number in range(100_000)],
    "large number": lambda: 1 << 3_000_000,
    "many middle": lambda: [bytes([number % 256]) * 40_000 for number in range(40)],
}


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same kind."""
    if type(one) is not type(other):
        return False
    if isinstance(one, numpy.ndarray):
        orders = [each.flags.f_contiguous and not each.flags.c_contiguous for each in (one, other)]
        equal = one.tolist() == other.tolist() if one.dtype.hasobject else one.tobytes() == other.tobytes()
        return (one.dtype, one.shape, orders[0]) == (other.dtype, other.shape, orders[1]) and equal
    return bool(one == other)


@pytest.fixture
def queues(ctx: Any) -> Iterator[tuple[Any, Any]]:
    """To a child that gives back what it is sent, and from it."""
    requests, answers = ctx.SimpleQueue(), ctx.SimpleQueue()
    child = ctx.Process(target=arrays.echo_all, args=(requests, answers))
    child.start()
    yield requests, answers
    requests.put(None)
    child.join(LONG)
    assert child.exitcode == 0
    requests.close()
    answers.close()


class TestWhatArrives:
    def test_through_queues(self, queues: Any) -> None:
        requests, answers = queues
        for name, make in {**ARRAYS, **OTHERS}.items():
            item = make()
            requests.put(item)
            assert same(answers.get(), item), name

    def test_through_a_pool(self, ctx: Any) -> None:
        items = [make() for make in {**ARRAYS, **OTHERS}.values()]
        with ctx.Pool(2) as pool:
            results = pool.map(arrays.echo, items, 1)
            results += pool.map(arrays.echo, items)
            results += list(pool.imap(arrays.echo, items, 3))
            results += [pool.apply(arrays.echo, (item,)) for item in items]
            pool.close()
            pool.join()
        assert [same(result, item) for result, item in zip(results, 4 * items, strict=True)] == [True] * len(
            4 * items
        )

    @pytest.mark.ours_only
    def test_through_an_executor(self, ctx: Any) -> None:
        import manyhands

        items = [make() for make in {**ARRAYS, **OTHERS}.values()]
        with manyhands.ProcessPoolExecutor(2, mp_context=ctx) as executor:
            results = [
                future.result(LONG) for future in [executor.submit(arrays.echo, item) for item in items]
            ]
        assert all(same(result, item) for result, item in zip(results, items, strict=True))

    @pytest.mark.ours_only
    def test_is_as_with_protocol_5(self, queues: Any) -> None:
        requests, answers = queues
        # Protocol 4, the standard library's default before 3.14, makes it writable and of the machine's byte order.
        for item in (*(make() for make in ARRAYS.values()), numpy.arange(50_000, dtype=">i8")):
            requests.put(item)
            got, plainly = answers.get(), pickle.loads(pickle.dumps(item, 5))
            assert got.flags.writeable == plainly.flags.writeable
            assert same(got, plainly)

    def test_what_is_one_stays_one(self, queues: Any) -> None:
        requests, answers = queues
        one, text = plain(), "x" * 100_000
        frame = arrays.Frame(a=one, b=one, c=[text, text])
        requests.put(frame)
        columns = answers.get().columns
        assert columns["a"] is columns["b"]
        assert columns["c"][0] is columns["c"][1]
        assert same(columns["a"], one)

    def test_the_mark_of_a_subclass(self, queues: Any) -> None:
        requests, answers = queues
        item = arrays.LongBytes(100_000)
        item.mark = plain()
        requests.put(item)
        assert same(answers.get().mark, plain())

    def test_a_memoryview_cannot_be_sent(self, ctx: Any) -> None:
        with ctx.Pool(1) as pool:
            with pytest.raises(TypeError, match=r"cannot pickle '?memoryview'? object"):
                pool.apply(arrays.echo, (memoryview(bytes(100_000)),))
            pool.close()
            pool.join()

    @pytest.mark.ours_only
    def test_functions_by_value_with_arrays(self, ctx: Any) -> None:
        array = plain()
        with ctx.Pool(2) as pool:
            assert pool.map(lambda number: float(array[number]), range(50)) == list(range(50))
            assert pool.apply(lambda given: float(given[3]), (array,)) == 3.0
            pool.close()
            pool.join()

    @pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
    @pytest.mark.parametrize("module", ["manyhands", "multiprocessing"])
    def test_pandas(self, module: str, method: str, tmp_path: Path) -> None:
        # In a program of its own: pandas has so many objects that each test after this one would take longer.
        pytest.importorskip("numpy")
        if importlib.util.find_spec("pandas") is None:
            pytest.skip("could not import 'pandas'")
        program = tmp_path / "frames.py"
        program.write_text(FRAMES)
        done = subprocess.run(
            [sys.executable, program, module, method], capture_output=True, text=True, timeout=LONG * 2
        )
        assert (done.stdout, done.returncode) == ("the same\n", 0), done.stderr


FRAMES = """
import importlib, sys
import pandas

def echo(requests, answers):
    answers.put(requests.get())

if __name__ == "__main__":
    module, method = sys.argv[1:]
    context = importlib.import_module(module).get_context(method)
    requests, answers = context.Queue(), context.Queue()
    child = context.Process(target=echo, args=(requests, answers))
    child.start()
    numbers = range(50_000)
    frame = pandas.DataFrame({"x": numbers, "y": [float(each) for each in numbers], "z": ["text"] * 50_000})
    requests.put(frame)
    pandas.testing.assert_frame_equal(answers.get(), frame)
    child.join()
    print("the same")
"""


class TestWhoseItIs:
    def test_two_workers_and_the_sender(self, ctx: Any) -> None:
        array = plain()
        with ctx.Pool(2) as pool:
            results = [pool.apply_async(arrays.fill_pair, ((array, value),)) for value in (-1.0, -2.0)]
            results += [pool.map_async(arrays.fill_pair, [(array, -3.0), (array, -4.0)], 2)]
            got = [result.get(LONG) for result in results]
            pool.close()
            pool.join()
        got = [*got[:2], *got[2]]
        # A chunk is one message, as in the standard library: what is one array in it is one where it arrives.
        assert [before for before, _ in got] == [0.0, 0.0, 0.0, -3.0]
        assert [returned[5] for _, returned in got] == [-1.0, -2.0, -4.0, -4.0]
        got[0][1][:] = 7.0
        assert (array == plain()).all()
        assert (got[1][1] == -2.0).all()

    @pytest.mark.ours_only
    def test_the_sender_goes_on_after_put(self, ctx: Any) -> None:
        array, queue = plain(), ctx.Queue()
        queue.put(array)
        array[:] = -1.0
        queue.put(array)
        array[:] = -2.0
        first, second = queue.get(timeout=LONG), queue.get(timeout=LONG)
        assert (first == plain()).all()
        assert (second == -1.0).all()
        first[:] = -3.0
        assert (second == -1.0).all()
        assert (array == -2.0).all()

    def test_what_was_received_is_sent_on_as_a_copy(self, queues: Any) -> None:
        requests, answers = queues
        requests.put(plain())
        received = answers.get()
        requests.put(received)
        again = answers.get()
        received[:] = -1.0
        assert (again == plain()).all()
        requests.put([received[10:], again])
        cut, whole = answers.get()
        cut[:] = -2.0
        assert (whole == plain()).all()
        assert (received == -1.0).all()

    def test_a_view_keeps_what_it_views(self, queues: Any) -> None:
        requests, answers = queues
        requests.put(plain())
        part = answers.get()[50_000:50_010]
        gc.collect()
        for value in range(20):
            requests.put(numpy.full(100_000, float(value)))
            answers.get()[:] = -1.0
        assert part.tolist() == list(range(50_000, 50_010))

    def test_a_partial_of_an_array_is_new_for_each_call(self, ctx: Any) -> None:
        with ctx.Pool(2) as pool:
            got = pool.map(partial(arrays.fill_with_pid, plain() + 5.0), range(20), 1)
            pool.close()
            pool.join()
        assert {before for before, _ in got} == {5.0}

    @pytest.mark.methods("fork")
    def test_a_forked_child_has_its_own(self, ctx: Any, queues: Any) -> None:
        requests, answers = queues
        for _ in range(3):
            requests.put(plain())
            received = answers.get()
            told, word = ctx.SimpleQueue(), ctx.SimpleQueue()
            child = ctx.Process(target=_fill_inherited, args=(received, told, word))
            child.start()
            assert told.get() == 0.0
            # The child has written to its own; what is written here it does not see.
            assert (received == plain()).all()
            received[:] = -5.0
            word.put("go on")
            assert told.get() == -1.0
            child.join(LONG)
            # What two processes had is no longer somebody else's when it is used again.
            del received
            told.close()
            word.close()
        requests.put(plain() + 1.0)
        assert (answers.get() == plain() + 1.0).all()

    def test_a_received_array_is_pickled_as_any(self, queues: Any) -> None:
        requests, answers = queues
        requests.put(plain())
        received = answers.get()
        for protocol in range(2, 6):
            assert same(pickle.loads(pickle.dumps(received, protocol)), plain())


def _fill_inherited(array: Any, told: Any, word: Any) -> None:
    told.put(arrays.fill(array, -1.0))
    word.get()
    told.put(float(array[7]))


@pytest.mark.ours_only
class TestByReference:
    """`empty`, `zeros`, `asarray`."""

    def test_what_they_make(self) -> None:
        import manyhands

        made = manyhands.zeros((3, 4), "i2")
        assert (made.shape, made.dtype, made.flags.c_contiguous, made.flags.writeable) == (
            (3, 4),
            "i2",
            True,
            True,
        )
        assert type(made) is numpy.ndarray
        assert (made == 0).all()
        assert manyhands.empty(7).shape == (7,)
        assert manyhands.empty((), "f4").shape == ()
        assert manyhands.zeros((0, 3)).tolist() == []
        for text in ("U", "S", "U5", "S0", str, bytes):
            assert manyhands.empty(3, text).dtype == numpy.empty(3, text).dtype
        assert manyhands.empty(5, STRUCTURED).dtype == numpy.dtype(STRUCTURED)
        copy = manyhands.asarray([[1, 2], [3, 4]], "f8")
        assert copy.tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert manyhands.asarray(copy) is copy
        assert manyhands.asarray(copy[0]).base is copy.base or manyhands.asarray(copy[0]).base is copy

    def test_what_they_refuse(self) -> None:
        import manyhands

        with pytest.raises(TypeError, match="cannot hold Python objects"):
            manyhands.empty(5, object)
        with pytest.raises(TypeError, match="cannot hold Python objects"):
            manyhands.asarray(["a", None], object)
        with pytest.raises(ValueError, match="negative"):
            manyhands.empty(-1)
        with pytest.raises(MemoryError, match="no shared memory for 8796093022208 bytes"):
            manyhands.empty(1 << 40)

    def test_sending_them_copies_nothing(self, ctx: Any) -> None:
        import manyhands

        requests, answers = ctx.Queue(), ctx.SimpleQueue()
        child = ctx.Process(target=arrays.set_item_and_say, args=(requests, answers))
        child.start()
        array = manyhands.zeros((100, 200))
        views = [array, array[10:20], array[:, 3:5], array[::-1, ::-2], array.T]
        for number, view in enumerate(views, 1):
            requests.put((view, (0, 0), float(number)))
            assert answers.get() == (False, view.shape)
            assert view[0, 0] == number
        requests.put(None)
        child.join(LONG)
        requests.close()
        answers.close()

    def test_a_read_only_view_stays_one(self, ctx: Any) -> None:
        import manyhands

        queue, array = ctx.SimpleQueue(), manyhands.zeros(10)
        view = array[:5]
        view.flags.writeable = False
        queue.put((array, view))
        there, same_view = queue.get()
        there[2] = 5.0
        assert (array[2], same_view[2], same_view.flags.writeable) == (5.0, 5.0, False)
        queue.close()

    def test_as_arguments_items_and_results(self, ctx: Any) -> None:
        import manyhands

        array = manyhands.zeros((4, 50_000))
        child = ctx.Process(target=arrays.set_item, args=(array, (0, 7), 3.0))
        child.start()
        child.join(LONG)
        assert array[0, 7] == 3.0
        with ctx.Pool(2) as pool:
            pool.starmap(arrays.fill, [(array[row], float(row)) for row in range(4)])
            back = pool.apply(arrays.echo, (array,))
            pool.map(partial(arrays.fill, array[1]), [9.0])
            pool.close()
            pool.join()
        assert array[:, 0].tolist() == [0.0, 9.0, 2.0, 3.0]
        back[2, 2] = -1.0
        assert array[2, 2] == -1.0

    def test_other_arrays_as_arguments(self, ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are pickled as ever, by whatever is registered for them."""
        from multiprocessing.reduction import ForkingPickler

        import manyhands

        manyhands.empty(3)
        answers, sent = ctx.SimpleQueue(), numpy.arange(5.0)
        for _ in range(2):
            child = ctx.Process(target=arrays.put_type_and_sum, args=(answers, sent))
            child.start()
            child.join(LONG)
            assert child.exitcode == 0
            monkeypatch.setitem(ForkingPickler._extra_reducers, numpy.ndarray, arrays.reduce_to_list)  # type: ignore[attr-defined]
        kind = "ndarray" if ctx.get_start_method() == "fork" else "list"
        assert [answers.get(), answers.get()] == [("ndarray", 10.0), (kind, 10.0)]
        answers.close()
        monkeypatch.undo()
        with ctx.Pool(1, arrays.echo, (sent,)) as pool:
            assert pool.apply(arrays.echo, (1,)) == 1
            pool.close()
            pool.join()

    def test_a_message_keeps_them(self, ctx: Any) -> None:
        import manyhands

        queue = ctx.Queue()
        array = manyhands.zeros(1_000) + 1.0
        queue.put(manyhands.asarray(array))
        del array
        gc.collect()
        others = [manyhands.empty(1_000) for _ in range(20)]
        for other in others:
            other[:] = 9.0
        assert (queue.get(timeout=LONG) == 1.0).all()

    def test_of_a_shared_array(self, ctx: Any) -> None:
        import manyhands

        shared = manyhands.SharedArray((3, 4), "i8")
        view, queue = manyhands.asarray(shared), ctx.SimpleQueue()
        queue.put(view[1])
        queue.get()[2] = 5
        assert numpy.asarray(shared)[1, 2] == 5
        # What numpy makes of it is numpy's.
        queue.put(numpy.asarray(shared))
        queue.get()[0, 0] = 7
        assert view[0, 0] == 0
        queue.close()

    def test_a_plain_pickle_is_a_copy(self) -> None:
        import manyhands

        array = manyhands.zeros(5)
        queue = manyhands.SimpleQueue()
        queue.put(array.view(numpy.recarray))
        queue.get()[0] = 2.0
        assert array[0] == 0.0
        copy = pickle.loads(pickle.dumps(array))
        copy[1] = 2.0
        assert array[1] == 0.0


@pytest.mark.ours_only
class TestMemory:
    @pytest.mark.parametrize("what", ["numpy.zeros(1 << 26)", "bytes(1 << 29)", "'x' * (1 << 29)"])
    def test_more_than_there_is(self, what: str) -> None:
        program = (
            "import manyhands, numpy\n"
            "queue = manyhands.Queue()\n"
            f"try: queue.put({what})\n"
            "except MemoryError as error: print(error)\n"
            "queue.put(numpy.ones(100_000)); print(queue.get().sum())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "MANYHANDS_ARENA_MAX": str(256 << 20),
            },
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        refused, after = done.stdout.splitlines()
        assert refused.startswith("no shared memory for 5368")
        assert "the family's limit is 268435456 bytes (MANYHANDS_ARENA_MAX)" in refused
        assert after == "100000.0"

    @pytest.mark.deadline(480)
    @pytest.mark.usefixtures("much_memory")
    @pytest.mark.parametrize("gibibytes", [2, 4])
    def test_beyond_what_32_bits_count(self, gibibytes: int) -> None:
        if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < (gibibytes + 2) << 30:
            pytest.skip("needs more memory")
        import manyhands

        queue = manyhands.SimpleQueue()
        # Nothing but zeroes that take no memory, up to the end.
        array = numpy.zeros((gibibytes << 30) + 4_099, "u1")
        array[-1] = 7
        queue.put([array, 1])
        got, one = queue.get()
        assert (got.nbytes, int(got[-2]), int(got[-1]), one) == (array.nbytes, 0, 7, 1)
        assert int(got[gibibytes << 30 :].sum()) == 7
        queue.close()

    def test_numpy_is_not_imported_for_others(self) -> None:
        program = (
            "import sys, manyhands; queue = manyhands.Queue(); queue.put(bytes(100_000)); queue.get();"
            "assert not {'numpy', 'cloudpickle'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
