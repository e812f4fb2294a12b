"""Functions and classes by value, through cloudpickle. Imported only when there is something that has no name.

What differs from cloudpickle: the receiver decides whether it has the function or class already (`_identities`), and
makes it once; what a class is made of lies beside the messages (`_bodies`); a function that travels by value works on
the globals of its module in the receiving process, as one that travels by name does, and not on a copy of its own;
classes and functions of the main module go by name where the receiver has that module; and reducers registered with the
standard library's `ForkingPickler` hold inside.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import types
import typing
import weakref
from typing import Any

import cloudpickle

from . import (
    _bodies,
    _brought,
    _descriptors,
    _enumerations,
    _fingerprints,
    _found_by_name,
    _identities,
    _marks,
    _pickler,
    _sources,
    _type_parameters,
    _typed_in,
)
from ._manyhands import Sink

__all__ = ["dump_into"]

_MAIN = ("__main__", "__mp_main__")
#: A flag of types, as in the interpreter's headers (``Py_TPFLAGS_HEAPTYPE``).
_MADE_BY_PROGRAM = 1 << 9
_Cached = type(functools.lru_cache(abs))


def dump_into(obj: object, sink: Sink, carries: bool) -> None:
    """As `_pickler.dump_into`, functions and classes without a name by value. The sink is empty."""
    noted = _descriptors.Noted.by_name(obj)
    noted.forget()
    pickler = _Pickler(sink, carries=carries)
    try:
        pickler.dump(obj)
    except Exception:
        pickler.clear_memo()
        noted.forget()
        if not pickler.has_sent_globals or _pickler.main_by_value():
            raise
        # The receiver's main module has its own of what is named there: locks, connections and the like may stay
        # behind.
        sink.clear()
        _Pickler(sink, _Sendable(), carries).dump(obj)


class _Reducers:
    """The reducers in force: `ForkingPickler`'s, ours, cloudpickle's, `copyreg`'s, and `own`."""

    def __init__(self, own: dict[type, Any]) -> None:
        self._own = own

    def __getitem__(self, cls: type) -> Any:
        # The standard library's way with methods looks them up by name, which need not be there.
        if cls is not types.MethodType:
            reducer = _pickler.registered(cls)
            if reducer is not None:
                return reducer
        reducer = _REDUCERS.get(cls) or cloudpickle.Pickler.dispatch_table.get(cls)
        return self._own[cls] if reducer is None else reducer


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    #: Whether what type parameters refer to goes along with them.
    _tells_all = True

    def __init__(self, sink: Sink, sendable: _Sendable | None = None, carries: bool = False) -> None:
        self.dispatch_table = _Reducers({} if sink.is_standard else _pickler.own_reducers)
        super().__init__(sink, buffer_callback=sink.keep)
        self._sendable = sendable
        #: Variables of enclosing functions: those that share one here do so there.
        self._cells: dict[int, types.CellType] = {}
        self._carries = carries and not sink.is_standard
        self._marks: dict[str, _marks.Mark | None] = {}
        #: Whether values of the main module's globals went along with a function.
        self.has_sent_globals = False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if issubclass(kind, type):
            reducer = _pickler.registered(kind) or copyreg.dispatch_table.get(kind)
            if reducer is not None:
                return reducer(obj)
            if not obj.__flags__ & _MADE_BY_PROGRAM:
                # The interpreter's own, some of which cloudpickle knows other ways to.
                return super().reducer_override(obj)
            return self._reduce_class(obj) if _found_by_name.has_no_name(obj) else NotImplemented
        if kind is types.FunctionType:
            return self._reduce_function(obj) if _found_by_name.has_no_name(obj) else NotImplemented
        if kind is types.CellType and id(obj) in self._cells:
            # What it holds is set by the functions that it is a variable of.
            return _make_cell, ()
        if kind is _Cached and _found_by_name.has_no_name(obj):
            return self._reduce_cached(obj)
        if kind in _type_parameters.KINDS and _pickler.registered(kind) is None:
            return _type_parameters.reduce(obj, self._tells_all)
        return NotImplemented

    # --- functions ---

    def _reduce_function(self, function: types.FunctionType) -> Any:
        """cloudpickle's reduction, changed so that the function gets its module's globals and not a copy."""
        # As for what has no name: cloudpickle would find one of the main module's by its name in a child.
        reduced = self._dynamic_function_reduce(function)
        make, (code, copied, name, defaults, _new), (state, slots), *unused, set_state = reduced
        cells = function.__closure__
        self._cells.update((id(cell), cell) for cell in cells or ())
        slots["__closure__"] = None
        if getattr(function, "__type_params__", ()):
            slots["__type_params__"] = function.__type_params__  # type: ignore[attr-defined]
        slots["__module__"] = _fingerprints.main_named(slots["__module__"])
        used = slots["__globals__"]
        module = _found_by_name.module_of(function)
        if module is not None and not used and module not in _MAIN:
            # A function that uses nothing of its module does not have it imported.
            module = None
        if module is not None:
            slots, copied = {**slots, "__globals__": {}}, None
            used = self._sent_along(used) if module in _MAIN else {}
        else:
            used = {}
        header = _identities.header_of(
            function, _fingerprints.state(function), _fingerprints.fingerprint(function)
        )
        said = tuple(header)
        arguments = (said, make, module, code, copied, name, defaults, cells)
        held = tuple(map(_held, cells or ()))
        return (_make_function, arguments, (set_state, (state, slots), held, used, said), *unused, _set_state)

    def _sent_along(self, used: dict[str, Any]) -> dict[str, Any]:
        """Those of the main module's globals that go with what uses them, with their marks."""
        if self._sendable is not None:
            used = {name: value for name, value in used.items() if self._sendable.is_sendable(value)}
        used = {
            name: value
            for name, value in used.items()
            if not _typed_in.is_inherited(name, value) and not _pickler.has_been_forked(name, value)
        }
        self.has_sent_globals |= bool(used)
        return {name: (value, self._mark_of(name, value)) for name, value in used.items()}

    def _mark_of(self, name: str, value: object) -> _marks.Mark | None:
        """One for all functions of a message."""
        if name not in self._marks:
            self._marks[name] = _marks.mark_of(value)
        return self._marks[name]

    def _reduce_cached(self, cached: Any) -> Any:
        """What `functools.lru_cache` has made of a function."""
        wrapped = cached.__wrapped__
        header = _identities.header_of(
            cached, _fingerprints.state(wrapped), _fingerprints.fingerprint(wrapped)
        )
        parameters = cached.cache_parameters()
        return _make_cached, (tuple(header), wrapped, parameters["maxsize"], parameters["typed"])

    # --- classes ---

    def _reduce_class(self, cls: type) -> Any:
        record = _identities.record_of(cls)
        body = self._body_of(cls, record)
        if body is None:
            # One of those that have names of cloudpickle's own.
            return cloudpickle.Pickler.reducer_override(self, cls)
        beside = body.beside()
        assert beside is not None, "the class holds what its body names"
        said = tuple(_identities.header_of(cls, body.version, body.fingerprint))
        sent = body.sent(self._carries)
        main = _found_by_name.main_globals()
        used = self._sent_along({name: main[name] for name in body.names if name in main})
        return (
            _make_class,
            (said, sent, beside[0]),
            (said, sent, beside, used),
            None,
            None,
            _complete_class,
        )

    def _body_of(self, cls: type, record: _identities.Record) -> _bodies.Body | None:
        """What it was sent as before, unless it has changed."""
        look = _bodies.look(cls)
        shape = None if look is None else (look, _pickler.main_by_value(), len(_pickler.names_below()))
        before: _bodies.Body | None = record.body
        if before is not None and shape is not None and shape == record.shape and before.beside() is not None:
            return before
        body = _make_body(cls, self._sendable)
        if body is not None and before is not None and before.version == body.version:
            body.block = before.block
        record.body, record.shape = body, shape
        return body


class _BodyPickler(_Pickler):
    """One of the two pickles of a class's body: other classes without names go beside it."""

    def __init__(self, sink: Sink, cls: type, sendable: _Sendable | None, tells_all: bool) -> None:
        super().__init__(sink, sendable)
        self._tells_all = tells_all
        self._cls = cls
        self.beside: list[Any] = []
        self.names: dict[str, None] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if not issubclass(type(obj), type):
            return None
        if obj is self._cls:
            return -1
        if not obj.__flags__ & _MADE_BY_PROGRAM or not _found_by_name.has_no_name(obj):
            return None
        if _pickler.registered(type(obj)) or copyreg.dispatch_table.get(type(obj)):
            return None
        for number, each in enumerate(self.beside):
            if each is obj:
                return number
        self.beside.append(obj)
        return len(self.beside) - 1

    def _sent_along(self, used: dict[str, Any]) -> dict[str, Any]:
        # They go with each message, as they are then.
        self.names.update(dict.fromkeys(used))
        return {}


def _make_body(cls: type, sendable: _Sendable | None) -> _bodies.Body | None:
    if _enumerations.is_one(cls):
        made = _enumerations.make, _enumerations.parts(cls, _fingerprints.main_named(cls.__module__))
        set_state, state = _enumerations.set_state, _enumerations.state(cls, _bodies.state_of(cls)[0])
    else:
        reduced = cloudpickle.cloudpickle._class_reduce(cls)
        if reduced is NotImplemented:
            # It would be found by its name here: a main module's in a child.
            reduced = cloudpickle.cloudpickle._dynamic_class_reduce(cls)
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return None
        make, arguments, state, *_unused, set_state = reduced
        if set_state is cloudpickle.cloudpickle._class_setstate:
            state = _bodies.state_of(cls)
        made = _as_it_is_named(cls, make, arguments)
    if "__module__" in state[0]:
        state[0]["__module__"] = _fingerprints.main_named(state[0]["__module__"])
    pickles: list[bytes] = []
    beside: list[list[Any]] = []
    names: dict[str, None] = {}
    # What a class's own type parameters refer to may be the class itself: it is told when that is there.
    for what, tells_all in ((made, False), ((set_state, state), True)):
        sink = Sink(True)
        pickler = _BodyPickler(sink, cls, sendable, tells_all)
        pickler.dump(what)
        pickles.append(sink.pickle())
        beside.append(pickler.beside)
        names.update(pickler.names)
    return _bodies.Body(pickles, beside, tuple(names), _fingerprints.fingerprint(cls))


def _as_it_is_named(cls: Any, make: Any, arguments: Any) -> tuple[Any, Any]:
    """Without cloudpickle's own tracking of classes; with what it leaves out: the full name, the slots, and of generic
    classes both the bases and what they were written as."""
    *first, _tracked, extra = arguments
    if make is cloudpickle.cloudpickle._make_skeleton_class:
        kind, name, bases, more = first
        more = {**more, "__qualname__": cls.__qualname__}
        for key in ("__slots__", "__orig_bases__"):
            if key in cls.__dict__:
                more[key] = cls.__dict__[key]
        if "__orig_bases__" in more and not typing.is_typeddict(cls):
            bases = cls.__bases__
        more["__module__"] = _fingerprints.main_named(cls.__module__)
        if typing.is_typeddict(cls) and "__orig_bases__" not in more:
            # Before 3.12 those of one that is derived are not known any more; what it has of them is its own.
            make, bases = (
                _make_typed_dict,
                (typing.TypedDict, *(base for base in bases if base is typing.Generic)),
            )
        first = [kind, name, bases, more]
    return make, (*first, None, extra)


# --- what goes along ---


class _Sendable:
    """Which values can be pickled, each asked once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, bool]] = {}

    def is_sendable(self, value: object) -> bool:
        if id(value) not in self._known:
            # A function may use itself; the value is kept so that its identity stays its own.
            self._known[id(value)] = (value, True)
            noted, pickler = _descriptors.Noted(), _Pickler(Sink(True), self)
            try:
                pickler.dump(value)
            except Exception:
                self._known[id(value)] = (value, False)
            pickler.clear_memo()
            noted.forget()
        return self._known[id(value)][1]


# --- code ---


def _code_by_value(code: types.CodeType) -> Any:
    """cloudpickle's reduction, with the name of the file; with the text, if it is of no file."""
    make, arguments = cloudpickle.cloudpickle._code_reduce(code)
    file = code.co_filename
    arguments = tuple(file if each == "<dynamic-code>" else each for each in arguments)
    text = _sources.of(file)
    return (make, arguments) if text is None else (_make_code, (arguments, file, text))


def _make_code(arguments: tuple[Any, ...], file: str, text: list[str]) -> types.CodeType:
    _sources.note(file, text)
    return types.CodeType(*arguments)


# --- other things with names ---


_REDUCERS: dict[Any, Any] = {
    types.CodeType: _code_by_value,
    functools.cached_property: lambda each: (_make_cached_property, (each.func, each.attrname)),
    weakref.WeakKeyDictionary: lambda each: (type(each), (dict(each),)),
    weakref.WeakValueDictionary: lambda each: (type(each), (dict(each),)),
}


# --- in the receiving process ---


def _make_function(
    said: tuple[Any, ...], make: Any, module: str | None, code: types.CodeType, copied: Any, *rest: Any
) -> Any:
    header = _identities.Header._make(said)
    found = _identities.find_function(header)
    if found is not None:
        return found
    where = copied
    if module is not None:
        where = (
            _found_by_name.main_globals() if module == "__main__" else vars(importlib.import_module(module))
        )
    return _identities.note_copy(make(code, where, *rest), header)


def _make_cell() -> types.CellType:
    return types.CellType()


def _held(cell: types.CellType) -> tuple[Any, ...]:
    """In a tuple, because it may hold nothing so far."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _set_state(function: types.FunctionType, state: Any) -> None:
    set_state, own, held, used, said = state
    header = _identities.Header._make(said)
    if used:
        _brought.bring(used)
    record = _identities.record_of(function)
    if not record.is_complete:
        set_state(function, own)
        for cell, value in zip(function.__closure__ or (), held, strict=True):
            if value:
                cell.cell_contents = value[0]
        record.is_complete, record.version = True, header.state
    _brought.bring_by_its_name(function, header)


def _make_class(said: tuple[Any, ...], body: Any, beside: list[Any]) -> Any:
    header = _identities.Header._make(said)
    made: list[Any] = []

    def bases() -> Any:
        made.extend(_bodies.made_of(body, beside))
        return _bodies.bases_of(*made) or ()

    cls = _identities.find_class(header, bases)
    if cls is None:
        make, arguments = made
        cls = _identities.note_received(make(*arguments), header)
    return cls


def _make_typed_dict(kind: Any, name: str, bases: Any, more: dict[str, Any], *_unused: Any) -> Any:
    return kind(name, types.resolve_bases(bases), dict(more))


def _complete_class(cls: Any, state: Any) -> None:
    said, body, beside, used = state
    header = _identities.Header._make(said)
    if used:
        _brought.bring(used)
    record = _identities.record_of(cls)
    if record.version == header.state or (record.is_own and not record.follows(header)):
        pass
    elif record.is_like_parents:
        # Only a later one differs; but for what members of an enumeration have been given.
        record.is_like_parents = False
        record.names, record.version = _bodies.put_members_on(cls, body, beside[1]), header.state
    else:
        if record.version is not None:
            _bodies.put_bases_on(cls, body, beside[0])
        record.names = _bodies.put_on(cls, body, beside[1], record.names)
        record.version = header.state
    _brought.bring_by_its_name(cls, header)


def _make_cached(said: tuple[Any, ...], wrapped: Any, maxsize: Any, typed: bool) -> Any:
    header = _identities.Header._make(said)
    cached = _identities.find_cached(header)
    if cached is None:
        cached = _identities.note_received(functools.lru_cache(maxsize, typed)(wrapped), header)
    _brought.bring_by_its_name(cached, header)
    return cached


def _make_cached_property(function: Any, name: str | None) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.attrname = name
    return made
