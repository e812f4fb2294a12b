"""`Value`, `Array` and their like, as the standard library's documentation has them."""

from __future__ import annotations

import ctypes
import multiprocessing.sharedctypes as standard
from typing import Any

import pytest
import sharing

pytestmark = pytest.mark.standard

LONG = 30.0
CODES = ["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d"]
INTEGERS = [*"bBhHiIlLqQ"]

# Nothing that a start method has a say in.
in_one_process = pytest.mark.methods("fork")


def sharedctypes(ctx: Any) -> Any:
    """The module of the implementation that the context is of."""
    import manyhands.sharedctypes

    return manyhands.sharedctypes if type(ctx).__module__.startswith("manyhands") else standard


def start(ctx: Any, target: Any, *args: Any) -> Any:
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def finish(*started: Any) -> None:
    for process in started:
        process.join(LONG)
        assert process.exitcode == 0


@in_one_process
class TestValue:
    @pytest.mark.parametrize("code", CODES)
    @pytest.mark.parametrize("lock", [True, False])
    def test_is_zero_then_what_is_written(self, ctx: Any, code: str, lock: bool) -> None:
        value = ctx.Value(code, lock=lock)
        assert value.value == 0
        value.value = 100
        assert value.value == 100
        assert ctx.Value(code, 7, lock=lock).value == 7

    @pytest.mark.parametrize(
        ("code", "written"),
        [("b", 200), ("B", -1), ("h", 70_000), ("i", 2**31), ("I", -5), ("q", 2**64 + 3), ("Q", 2**63)],
    )
    def test_wraps_around_as_ctypes(self, ctx: Any, code: str, written: int) -> None:
        value, raw = ctx.Value(code), ctx.RawValue(code)
        value.value = raw.value = written
        assert value.value == raw.value
        assert value.value == standard.typecode_to_type[code](written).value

    @pytest.mark.parametrize("code", ["i", "Q", "d", "f", "c", ctypes.c_bool, "u"])
    def test_takes_and_refuses_what_ctypes_does(self, ctx: Any, code: Any) -> None:
        for written in ("x", b"x", b"xy", 1.5, 3, None, [], 2**70, True):
            self.compare(ctx, code, written)

    def compare(self, ctx: Any, code: Any, written: Any) -> None:
        value, plain = ctx.Value(code), standard.typecode_to_type.get(code, code)()
        expected: Any = None
        try:
            plain.value = written
        except Exception as error:
            expected = error
        if expected is None:
            value.value = written
            assert value.value == plain.value
            assert type(value.value) is type(plain.value)
        else:
            with pytest.raises(type(expected)) as raised:
                value.value = written
            assert str(raised.value) == str(expected)
            # And the lock is free.
            assert value.get_lock().acquire(False)
            value.get_lock().release()

    def test_character_and_truth(self, ctx: Any) -> None:
        assert ctx.Value("c", b"x").value == b"x"
        assert ctx.Value(ctypes.c_bool, True).value is True

    def test_shows_what_it_wraps(self, ctx: Any) -> None:
        assert repr(ctx.Value("i", 7)) == "<Synchronized wrapper for c_int(7)>"

    def test_is_what_people_look_for(self, ctx: Any) -> None:
        assert isinstance(ctx.Value("i"), standard.Synchronized)
        assert isinstance(ctx.Value("i"), standard.SynchronizedBase)
        assert isinstance(ctx.Array("i", 1), standard.SynchronizedArray)
        assert isinstance(ctx.Array("c", 1), standard.SynchronizedString)
        assert isinstance(ctx.RawValue("i"), ctypes.c_int)

    def test_structure(self, ctx: Any) -> None:
        point = ctx.Value(sharing.Point, 3, 0.5)
        assert (point.x, point.y, point.z) == (3, 0.5, 0)
        point.z = 2**40
        assert point.get_obj().z == 2**40
        assert type(point).__name__ == "SynchronizedPoint"
        assert type(ctx.Value(sharing.Point)) is type(point)


class TestLock:
    def test_given_made_or_none(self, ctx: Any) -> None:
        for make in (ctx.Value, ctx.Array):
            for lock in (ctx.Lock(), ctx.RLock()):
                assert make("i", 5, lock=lock).get_lock() is lock
            assert hasattr(make("i", 5, lock=None), "get_lock")
            assert not hasattr(make("i", 5, lock=False), "get_lock")
            with pytest.raises(AttributeError, match="has no method 'acquire'"):
                make("i", 5, lock="navalue")

    def test_is_recursive(self, ctx: Any) -> None:
        value = ctx.Value("i", 1)
        with value, value.get_lock():
            value.acquire()
            value.value += 1
            value.release()
        assert value.value == 2

    def test_around_counting(self, ctx: Any) -> None:
        value = ctx.Value("i", 0)
        children = [start(ctx, sharing.increment, value, 300) for _ in range(3)]
        finish(*children)
        assert value.value == 900

    def test_a_reader_waits_for_who_holds_it(self, ctx: Any) -> None:
        value = ctx.Value("i", 1)
        ours, theirs = ctx.Pipe()
        holder = start(ctx, sharing.hold_until_told, value, theirs)
        assert ours.recv() == "held"
        mine, its = ctx.Pipe()
        reader = start(ctx, sharing.read_value, value, its)
        assert mine.recv() == "reading"
        assert not mine.poll(0.2)
        ours.send("go on")
        assert mine.recv() == 2
        finish(holder, reader)
        for end in (ours, theirs, mine, its):
            end.close()

    def test_of_somebody_elses(self, ctx: Any) -> None:
        import threading

        class Counted:
            def __init__(self) -> None:
                self.calls: list[str] = []
                self.lock = threading.RLock()

            def acquire(self) -> bool:
                self.calls.append("acquire")
                return self.lock.acquire()

            def release(self) -> None:
                self.calls.append("release")
                self.lock.release()

            def __enter__(self) -> bool:
                return self.acquire()

            def __exit__(self, *_error: object) -> None:
                self.release()

        lock = Counted()
        value = ctx.Value("d", 1.5, lock=lock)
        value.value = 2.5
        assert value.value == 2.5
        array = ctx.Array("d", 2, lock=lock)
        array[0] = 1
        assert array[:] == [1, 0]
        with pytest.raises(TypeError):
            array[0] = "x"
        assert lock.calls == ["acquire", "release"] * 5


@in_one_process
class TestArray:
    @pytest.mark.parametrize("code", CODES)
    @pytest.mark.parametrize("lock", [True, False])
    def test_items_and_slices(self, ctx: Any, code: str, lock: bool) -> None:
        array = ctx.Array(code, range(10), lock=lock)
        same = list(range(10))
        assert len(array) == 10
        assert list(array) == same
        for key in (
            0,
            -1,
            9,
            slice(None),
            slice(2, 5),
            slice(-3, None),
            slice(None, None, 3),
            slice(8, 2, -2),
        ):
            assert array[key] == same[key]
        array[3] = same[3] = 99
        array[4:8] = same[4:8] = [1, 2, 3, 4]
        array[::2] = same[::2] = (9, 8, 7, 6, 5)
        array[9:1:-3] = same[9:1:-3] = [11, 12, 13]
        assert array[:] == same

    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_of_a_size_is_zero(self, ctx: Any, size: int) -> None:
        for make in (ctx.Array, ctx.RawArray):
            assert list(make("i", size)) == [0] * size

    def test_errors_are_those_of_ctypes(self, ctx: Any) -> None:
        array, plain = ctx.Array("d", 5), (ctypes.c_double * 5)()
        for key, value in [
            (5, 1.0),
            (-6, 1.0),
            (0, "x"),
            (slice(0, 2), [1.0]),
            (slice(0, 2), [1.0, "x"]),
            (slice(0, 2), 5),
            (slice(None, None, 0), [1.0]),
            ("x", 1.0),
            (1.5, 1.0),
            (2**70, 1.0),
        ]:
            with pytest.raises(Exception) as expected:
                plain[key] = value  # type: ignore[index,call-overload]
            with pytest.raises(expected.type) as raised:
                array[key] = value
            assert str(raised.value) == str(expected.value)
        for key in (5, -6, "x", 1.5):
            with pytest.raises(Exception) as expected:
                plain[key]  # type: ignore[call-overload]
            with pytest.raises(expected.type) as raised:
                array[key]
            assert str(raised.value) == str(expected.value)
        with pytest.raises(AttributeError, match="__delitem__"):
            del array[0]
        # What came before the bad one of a slice is written, and the lock is free.
        assert array[:] == list(plain)
        assert array.get_lock().acquire(False)
        array.get_lock().release()

    def test_of_anything_that_has_a_length(self, ctx: Any) -> None:
        import array as arrays

        array = ctx.Array("d", 3)
        for values in (range(3), (1, 2.5, True), arrays.array("d", [4, 5, 6]), arrays.array("i", [7, 8, 9])):
            array[:] = values
            assert array[:] == list(values)

    def test_of_a_view_of_itself(self, ctx: Any) -> None:
        array, plain = ctx.Array("d", range(6)), (ctypes.c_double * 6)(*range(6))
        for each in (array, plain):
            each[1:] = memoryview(getattr(each, "get_obj", lambda each=each: each)()).cast("B").cast("d")[:-1]
        assert array[:] == list(plain)

    def test_text(self, ctx: Any) -> None:
        text = ctx.Array("c", 10)
        text.value = b"hello"
        assert text.value == b"hello"
        assert text.raw == b"hello\0\0\0\0\0"
        assert text[1] == b"e"
        assert text[1:4] == b"ell"
        assert text[::2] == b"hlo\0\0"
        text[0] = b"j"
        text[1:3] = [b"u", b"m"]
        assert text.value == b"jumlo"
        with pytest.raises(ValueError, match="byte string too long"):
            text.value = b"x" * 11

    def test_structures(self, ctx: Any) -> None:
        points = ctx.Array(sharing.Point, [(1, 2.0), (3, 4.0)])
        assert [(point.x, point.y) for point in points] == [(1, 2.0), (3, 4.0)]
        points[0].x = 7
        assert points[0].x == 7

    @pytest.mark.parametrize("bad", [-1, "x", None, 1.5])
    def test_bad_sizes(self, ctx: Any, bad: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            ctx.Array("i", bad)

    @pytest.mark.parametrize("bad", ["x", "", None, 5])
    def test_bad_types(self, ctx: Any, bad: Any) -> None:
        with pytest.raises((TypeError, AttributeError)):
            ctx.Value(bad)


class TestSharing:
    @pytest.mark.parametrize("lock", [True, False])
    def test_children_write(self, ctx: Any, lock: bool) -> None:
        values = [ctx.Value("i", 7, lock=lock), ctx.Value(ctypes.c_double, 1 / 3, lock=lock)]
        values.append(ctx.Value(ctypes.c_longlong, 2**33, lock=lock))
        points = [ctx.Value(sharing.Point, 3, 2, lock=lock)]
        arrays = [ctx.Array("d", range(10), lock=lock)]
        text = ctx.Array("c", 20, lock=lock)
        text.value = b"hello"
        finish(start(ctx, sharing.double, values, points, arrays, text))
        assert [value.value for value in values] == [14, 2 / 3, 2**34]
        assert (points[0].x, points[0].y) == (6, 4)
        assert list(arrays[0]) == [2 * number for number in range(10)]
        assert text.value == b"hellohello"

    def test_copy_is_another(self, ctx: Any) -> None:
        point = ctx.RawValue(sharing.Point, 2, 5.0, 2**33)
        other = sharedctypes(ctx).copy(point)
        point.x = point.y = point.z = 0
        assert (other.x, other.y, other.z) == (2, 5.0, 2**33)

    def test_synchronized_afterwards(self, ctx: Any) -> None:
        module = sharedctypes(ctx)
        raw = ctx.RawValue("i", 3)
        value = module.synchronized(raw, ctx=ctx)
        assert value.value == 3
        assert value.get_obj() is raw
        lock = ctx.Lock()
        assert module.synchronized(ctx.RawArray("i", 2), lock).get_lock() is lock
        private = module.synchronized(ctypes.c_short(4), lock)
        private.value += 1
        assert private.value == 5
        with pytest.raises(AssertionError):
            module.synchronized(value)

    def test_names(self, ctx: Any) -> None:
        module = sharedctypes(ctx)
        assert set(module.__all__) == {"RawValue", "RawArray", "Value", "Array", "copy", "synchronized"}
        for name in ("SynchronizedBase", "Synchronized", "SynchronizedArray", "SynchronizedString"):
            assert issubclass(getattr(module, name), module.SynchronizedBase)
        assert module.typecode_to_type["d"] is ctypes.c_double


@pytest.mark.ours_only
class TestByHandle:
    """The standard library shares by inheritance only."""

    def test_through_a_queue(self, ctx: Any) -> None:
        queue = ctx.SimpleQueue()
        for made in (ctx.Value("i", 1), ctx.RawValue("i", 1)):
            queue.put(made)
            got = queue.get()
            got.value = 5
            assert made.value == 5
        for array in (ctx.Array("d", 3), ctx.RawArray("d", 3), ctx.Array("c", 3, lock=False)):
            queue.put(array)
            got = queue.get()
            got[1] = b"x" if array[0] == b"\0" else 2
            assert got[:] == array[:]
        queue.close()

    def test_through_a_pool(self, ctx: Any) -> None:
        array, value = ctx.Array("i", 3), ctx.Value("d", 1.5)
        with ctx.Pool(2) as pool:
            pool.apply(sharing.set_first, (array, 9))
            assert pool.map(sharing.first_of, [array, value, array]) == [9, 1.5, 9]
            pool.close()
            pool.join()

    def test_a_message_keeps_what_nobody_else_has(self, ctx: Any) -> None:
        queue = ctx.SimpleQueue()
        queue.put(ctx.Array("i", [4, 5, 6]))
        assert queue.get()[:] == [4, 5, 6]
        queue.close()

    def test_of_the_same_type_in_private_memory_is_a_copy(self, ctx: Any) -> None:
        shared, private = ctx.RawValue("i", 1), ctypes.c_int(2)
        queue = ctx.SimpleQueue()
        queue.put([shared, private])
        one, other = queue.get()
        one.value = other.value = 9
        assert (shared.value, private.value) == (9, 2)
        queue.close()


@pytest.mark.ours_only
class TestAtomics:
    @pytest.mark.parametrize("code", INTEGERS)
    def test_return_what_was_there(self, ctx: Any, code: str) -> None:
        value = ctx.Value(code, 5)
        assert value.fetch_add(3) == 5
        assert value.exchange(20) == 8
        assert value.compare_exchange(20, 1) is True
        assert value.compare_exchange(20, 2) is False
        assert value.value == 1
        whole = standard.typecode_to_type[code]
        value.exchange(-1)
        assert value.value == whole(-1).value
        assert value.fetch_add(2) == whole(-1).value
        assert value.value == 1
        assert value.fetch_add(2**200 + 4) == 1
        assert value.value == 5

    def test_none_is_lost(self, ctx: Any) -> None:
        value = ctx.Value("q", 0)
        children = [start(ctx, sharing.add_without_lock, value, 5_000) for _ in range(3)]
        sharing.add_without_lock(value, 5_000)
        finish(*children)
        assert value.value == 20_000

    def test_one_gets_each_place(self, ctx: Any) -> None:
        places, answers = [ctx.Value("i", 0) for _ in range(50)], ctx.SimpleQueue()
        children = [start(ctx, sharing.claim, places, answers, number) for number in (1, 2, 3)]
        claimed = sorted(at for _ in children for at in answers.get())
        finish(*children)
        assert claimed == list(range(50))
        answers.close()

    @pytest.mark.parametrize("code", ["d", "f", "c", ctypes.c_bool])
    def test_are_for_integers(self, ctx: Any, code: Any) -> None:
        value = ctx.Value(code)
        for call in (value.fetch_add, value.exchange, lambda n: value.compare_exchange(n, n)):
            with pytest.raises(TypeError, match="is for integer values in shared memory, not for c_"):
                call(1)
        with pytest.raises(TypeError, match="int expected instead of float instance"):
            ctx.Value("i").fetch_add(1.0)


@pytest.mark.ours_only
@in_one_process
class TestViews:
    def test_numpy_shares_the_memory(self, ctx: Any) -> None:
        numpy = pytest.importorskip("numpy")
        array = ctx.Array("d", 1_000)
        view = numpy.frombuffer(array.get_obj())
        view[:] = numpy.arange(1_000)
        assert array[999] == 999
        array[5] = -1
        assert numpy.asarray(array.get_obj())[5] == -1
        array[:] = view * 2
        assert view[999] == 1_998

    def test_a_view_keeps_the_memory(self, ctx: Any) -> None:
        view = memoryview(ctx.RawArray("i", [1, 2, 3])).cast("B").cast("i")
        others = [ctx.RawArray("i", [9, 9, 9]) for _ in range(100)]
        assert view.tolist() == [1, 2, 3]
        assert len(others) == 100
