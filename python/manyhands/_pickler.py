"""Objects to bytes: the standard library's `ForkingPickler` table on the C pickler, and by value what that cannot name.

Reducers that others register with ``multiprocessing.reduction.ForkingPickler.register`` (torch's, say) work here
too. The table is looked at only for objects that pickle would otherwise handle by its general rule, and the standard
library's module is not imported for it: a process in which nobody has imported it has no reducers of its own.

Functions and classes travel by name. Those that have none (lambdas, closures, what is defined in a function), and
those of a main module that a fresh child does not have or has not run so far, travel by value: `_by_value` is imported
for them.
"""

from __future__ import annotations

import copyreg
import os
import sys
from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]
from _operator import call, is_
from _pickle import PickleBuffer, PicklingError
from _pickle import Pickler as _CPickler
from _weakref import ref
from itertools import repeat

from . import _unguarded
from ._manyhands import Sink, note_offer, sending

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "at_the_first_start",
    "dump_into",
    "dumps",
    "dumps_alone",
    "dumps_with",
    "has_been_forked",
    "has_fresh_children",
    "is_defined_again",
    "is_named",
    "main_by_value",
    "main_is_importable",
    "names_below",
    "note_came",
    "note_fork",
    "note_fresh_children",
    "note_lacking_names",
    "registered",
    "standard_dumps",
    "used_of_main",
    "was_there",
]

#: More bytes are searched for the main module's name only if that matters.
_FEW = 4 << 10
#: With 5, types offer their long parts as buffers; the standard library's default is 4 before Python 3.14.
_PROTOCOL = 5


class _Reducers:
    """The reducers in force, `ForkingPickler`'s before `copyreg`'s before ours, as the pickler wants them: by type."""

    def __getitem__(self, cls: type) -> Callable[[Any], Any]:
        # Asked for most objects: `registered` is called only where it can have an answer.
        if "multiprocessing.reduction" in sys.modules or cls.__module__ == "socket":
            reducer = registered(cls)
            if reducer is not None:
                return reducer
        if cls in copyreg.dispatch_table:
            return copyreg.dispatch_table[cls]
        if cls in own_reducers:
            return own_reducers[cls]
        if cls.__module__ == "array" and cls is getattr(sys.modules.get("array"), "array", None):
            return _reduce_array
        raise KeyError(cls)


class _StandardReducers:
    """As `_Reducers`, without ours: what they make of an object only manyhands can read."""

    def __getitem__(self, cls: type) -> Callable[[Any], Any]:
        return registered(cls) or copyreg.dispatch_table[cls]


def registered(cls: type) -> Callable[[Any], Any] | None:
    """The reducer that somebody has registered with the standard library's `ForkingPickler`; ours for what a reducer of
    the standard library's own offers to the receiver.
    """
    reduction = sys.modules.get("multiprocessing.reduction")
    if reduction is None:
        if cls.__module__ != "socket":
            return None
        from multiprocessing import reduction
    reducer: Any = reduction.ForkingPickler._extra_reducers.get(cls)  # type: ignore[union-attr]
    if reducer is None and cls.__module__ == "multiprocessing.resource_sharer":
        return reduce_offer
    return reducer  # type: ignore[no-any-return]


#: Reducers of this package's for others' types, by type; see `_arrays`.
own_reducers: dict[type, Callable[[Any], Any]] = {}


def _reduce_array(array: array[Any]) -> tuple[Any, ...]:
    """An `array.array`, whose own way makes a bytes object of it first."""
    if len(array) * array.itemsize < _LONG_ARRAY or array.typecode == "u":
        return array.__reduce_ex__(_PROTOCOL)  # type: ignore[return-value]
    return _array_of, (array.typecode, PickleBuffer(array))


#: Shorter ones are copied once more instead of being opened.
_LONG_ARRAY = 64 << 10


def _array_of(typecode: str, items: Any) -> array[Any]:
    from array import array

    made: array[Any] = array(typecode)
    made.frombytes(items)
    return made


def reduce_offer(offer: Any) -> Any:
    """A descriptor that the receiver asks for: a `DupFd` of `resource_sharer`'s."""
    note_offer((ref(offer), offer._id))
    return offer.__reduce_ex__(_PROTOCOL)


class _Pickler(_CPickler):
    """One pickler class for all messages: its table is found by class, not built for each instance."""

    dispatch_table = _Reducers()  # type: ignore[assignment]


class _StandardPickler(_CPickler):
    """What it writes can be read without manyhands, unless there is something of manyhands in the object."""

    dispatch_table = _StandardReducers()  # type: ignore[assignment]


def dump_into(obj: object, sink: Sink, carries: bool = True) -> None:
    """The object for another process of the family: what the pickler writes goes to the engine's sink, and so do the
    long buffers that it is offered, if the sink takes any. Without ``carries`` nobody sees to it that what the pickle
    names is there until it is read.

    What cannot be named is sent by value. What cannot be sent at all raises the standard library's error, with a note
    why it does not go by value either.
    """
    try:
        (_StandardPickler if sink.is_standard else _Pickler)(sink, _PROTOCOL, True, sink.keep).dump(obj)
    except Exception as error:
        if not _is_sent_by_value_after(error, obj, sink, carries):
            raise
        return
    if (
        (_may_lack_names or _names_of_children is not None)
        and sink.names_main(_FEW)
        and _lacks_main(sink)
        and sink.names_main()
    ):
        _by_value_instead(obj, sink, carries)


def dumps(obj: object) -> bytes:
    """As `dump_into`, all of the object as bytes, which any number of processes may read."""
    sink = Sink(True)
    sending(dump_into, obj, sink)
    return sink.pickle()


def dumps_alone(obj: object) -> bytes:
    """As `dumps`, for bytes that may outlive this process and all that it has."""
    sink = Sink(True)
    sending(dump_into, obj, sink, False)
    return sink.pickle()


def standard_dumps(obj: object) -> bytes:
    """As `dumps`, for readers that may know nothing of this family, or of manyhands."""
    sink = Sink(True, True)
    sending(dump_into, obj, sink)
    return sink.pickle()


def dumps_with(by_name: Callable[[object, Sink], None], obj: object) -> bytes:
    """As `dumps`, for a child that is being started as a fresh interpreter, with another pickler for the first try."""
    note_fresh_children()
    _note_names()
    sink = Sink(True)
    try:
        by_name(obj, sink)
    except Exception as error:
        if not _is_sent_by_value_after(error, obj, sink):
            raise
    else:
        if _lacks_main(sink) and sink.names_main():
            _by_value_instead(obj, sink)
    return sink.pickle()


# --- when something goes by value ---


def _is_sent_by_value_after(error: Exception, obj: object, sink: Sink, carries: bool = True) -> bool:
    """By value, if the error says that something has no name; whether it was. If not, the error is raised again.

    By the caller, who handles it: a frame of ours that knows the error by a name, and is in its traceback, would keep
    the object and its copy until the garbage collector comes.
    """
    if not _is_of_naming(error):
        return False
    try:
        by_value = _module_by_value()
        sink.clear()
        by_value.dump_into(obj, sink, carries)
    except Exception as second:
        # In the standard library the first error is the only one.
        error.add_note(f"It cannot be sent by value either: {type(second).__name__}: {second}")
        return False
    return True


def _is_of_naming(error: Exception) -> bool:
    """Whether the pickler itself says that it finds no name for a function, class or module.

    An error that somebody's ``__reduce__`` or ``__getstate__`` raises has passed a frame of theirs, in which case the
    object is not asked twice.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _PICKLERS:
        traceback = traceback.tb_next
    if traceback is not None:
        return False
    text = str(error)
    if isinstance(error, TypeError):
        return text == "cannot pickle 'module' object"
    return isinstance(error, (PicklingError, AttributeError)) and text.startswith(
        ("Can't pickle", "Can't get local")
    )


#: Modules whose frames lie between us and the C pickler.
_PICKLERS = (__name__, "manyhands.spawn", "multiprocessing.reduction")


# --- the main module ---

#: Whether this process has, or is, a child that did not begin as a copy of its parent.
_fresh_children = getattr(sys.modules.get("manyhands._child"), "start_method", None) is not None
#: Whether some process that is addressed may lack what the main module has here.
_may_lack_names = _fresh_children
#: The ``__file__`` of the main module when it was last found to be importable; compared by identity.
_importable_file: object = object()


def note_fresh_children() -> None:
    """From now on, children may be addressed that have the main module only if they can import it."""
    global _fresh_children, _may_lack_names, _looked_at
    if not _fresh_children:
        # Forked ones lack less.
        _looked_at = 0
    _fresh_children = _may_lack_names = True


def main_is_importable() -> bool:
    """Whether a fresh child runs this process's main module again, and has all of it then.

    It does for a script and ``-m module``. It does not for ``python -c``, standard input, an interactive session, a
    notebook, a script whose file is gone, and packages and folders started through their ``__main__.py``.
    """
    global _importable_file
    if hasattr(sys, "ps1"):
        return False
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is _importable_file:
        return True
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        importable = name != "__main__" and not name.endswith(".__main__")
    else:
        importable = file is not None and main_file_exists(file)
    if importable and file is not None:
        _importable_file = file
    return importable


#: The main module that the following is about: `runpy` puts one in place of the other. Not kept: at the interpreter's
#: end a main module that somebody keeps outlives the modules that its objects' finalizers need.
_main_of_names: ref[Any] | None = None
#: What a fresh child has of it at least, with the functions and classes; nothing until the first is started.
_names_of_children: dict[str, Any] | None = None
#: Functions and classes that it has got since: children end their run of an unguarded one before.
_below: set[str] = set()
#: Those that have meant two things since.
_again: set[str] = set()
#: What each has meant last.
_last: dict[str, Any] = {}
#: The functions and classes when that was last found (not kept, either), and how many names there were.
_met: dict[str, Callable[[], object]] = {}
_looked_at = 0
#: Those of them that each uses, itself included.
_used_by: dict[str, dict[str, Callable[[], object]]] = {}


def _note_names() -> None:
    global _names_of_children
    _forget_other_main()
    # What children name so is theirs of this module, and not of one that `runpy` has run before.
    sys.modules["__mp_main__"] = sys.modules["__main__"]
    names = vars(sys.modules["__main__"])
    if _names_of_children is None:
        _names_of_children = {name: _known_by(value) for name, value in names.items()}
    names_below()


def _forget_other_main() -> None:
    global _main_of_names, _names_of_children, _looked_at
    main = sys.modules["__main__"]
    if _main_of_names is None or _main_of_names() is not main:
        _main_of_names, _names_of_children, _looked_at = ref(main), None, 0
        for known in (_below, _again, _last, _met, _used_by):
            known.clear()


def is_named(value: object) -> bool:
    """Whether it is pickled by its name: functions and classes, and what `functools` and `typing` make."""
    if isinstance(value, (type, _Function, _lru_cache_wrapper)):
        return True
    return type(value).__module__ == "typing" and hasattr(value, "__name__")


def _known_by(value: object) -> Any:
    if not is_named(value):
        return None
    try:
        return ref(value)
    except TypeError:
        # A name that ``type X = ...`` has given.
        return lambda: value


_Function = type(note_fresh_children)


def names_below() -> set[str]:
    """Functions and classes of the main module that a fresh child may lack: they were defined after a start. If all
    children are forks, only those that were defined again: others are not found, as in the standard library.

    In a child whose run of the main module ended early: those that it has from there. Its parent may have others of
    these names meanwhile.
    """
    _forget_other_main()
    names = vars(sys.modules["__main__"])
    # One that is defined again leaves the number as it was.
    now = map(names.get, _met, repeat(_met))
    if len(names) != _looked_at or not all(map(is_, now, map(call, _met.values()))):
        _look(names)
    return _below


def _names_below_for(sink: Sink) -> set[str]:
    """As `names_below`, having looked only at what that pickle names, and what that uses: the main module may have
    thousands."""
    _forget_other_main()
    names = vars(sys.modules["__main__"])
    used = sink.main_names() if len(names) == _looked_at else None
    if used is None:
        return names_below()
    for name in used:
        top = name.partition(".")[0]
        known = _used_by.get(top)
        if known is None:
            if top not in _met:
                # A function or class where there was something else, or an object that says that this is its name.
                return names_below() if not is_named(names.get(top)) else _looked_again(names)
            try:
                known = _note_used_by(top)
            except (OSError, ImportError):
                # Without a descriptor nothing is imported.
                return names_below()
        if not all(map(is_, map(names.get, known, repeat(_met)), map(call, known.values()))):
            return _looked_again(names)
    return _below


def used_of_main(obj: Any) -> tuple[dict[str, Any], list[tuple[str, object]]] | None:
    """The main module's names, and those of its functions and classes that one uses which was pickled by its name,
    itself included, with what they mean. ``None`` for what is of other modules, or while no child has the main module.
    """
    if getattr(obj, "__module__", None) not in ("__main__", "__mp_main__"):
        return None
    top = obj.__qualname__.partition(".")[0]
    known = _used_by.get(top)
    if known is None and top in _met:
        try:
            known = _note_used_by(top)
        except (OSError, ImportError):
            # As above.
            return None
    names = vars(sys.modules["__main__"])
    return None if known is None else (names, [(name, each()) for name, each in known.items()])


def _looked_again(names: dict[str, Any]) -> set[str]:
    _look(names)
    return _below


def _note_used_by(name: str) -> dict[str, Callable[[], object]]:
    from . import _users

    _used_by[name] = {each: _met[each] for each in _users.used_by(name, _met)}
    return _used_by[name]


def _look(names: dict[str, Any]) -> None:
    global _looked_at
    _looked_at = len(names)
    _met.clear()
    _used_by.clear()
    defined = {}
    ended_early = _unguarded.has_ended_early()
    for name, value in list(names.items()):
        if not is_named(value) or getattr(value, "__module__", None) not in ("__main__", "__mp_main__"):
            continue
        defined[name] = value
        _met[name] = _known_by(value)
        if name in _last and _last[name]() is not value:
            _again.add(name)
        _last[name] = _met[name]
        if _names_of_children is not None:
            known = _names_of_children.get(name)
            if known is not None and known() is not value:
                _again.add(name)
            elif known is None and _may_lack_names:
                _below.add(name)
        if ended_early and _unguarded.names.get(name) is value:
            _below.add(name)
    if _again:
        from . import _users

        _below.update(_again, _users.users_of(_again, defined))


def note_fork() -> None:
    """A child is about to be forked: what is defined later, or again, it lacks."""
    _note_names()


#: In a forked child: functions and classes of the main module that it began with.
_at_fork: dict[str, Callable[[], object]] = {}


def _keep_what_was_there() -> None:
    _at_fork.clear()
    _at_fork.update(_met)


os.register_at_fork(after_in_child=_keep_what_was_there)


def was_there(name: str, value: object) -> bool:
    """Whether this process is a fork, and began with that function or class under the name."""
    known = _at_fork.get(name)
    return known is not None and known() is value


def has_been_forked(name: str, value: object) -> bool:
    """Whether all children are forks, and have something of their own of that name which is no function or class."""
    is_known = _names_of_children is not None and name in _names_of_children
    return is_known and not _may_lack_names and not is_named(value)


def note_came(name: str) -> None:
    """The main module's function or class of that name came in a message; where it goes, it goes by value."""
    _forget_other_main()
    _below.add(name)


def is_defined_again(name: str) -> bool:
    """Whether the name, of a function or class in the main module, has meant another one that a child may have."""
    names_below()
    return name in _again


def at_the_first_start(name: str) -> object:
    """The function or class of that name that the main module had when the first child was started."""
    known = _names_of_children.get(name) if _names_of_children is not None else None
    return known() if known is not None else None


def note_lacking_names() -> None:
    """From now on, children may be addressed that began as copies of this process and lack what it has got since."""
    global _may_lack_names
    _may_lack_names = True


def has_fresh_children() -> bool:
    return _fresh_children


def main_file_exists(file: str) -> bool:
    """Whether the main module's file is there: of a program on standard input, it is ``<stdin>``."""
    from multiprocessing import process

    return os.path.exists(os.path.join(process.ORIGINAL_DIR or "", file))  # type: ignore[attr-defined]


def main_by_value() -> bool:
    """Whether names of the main module may mean nothing, or something else, to some child of this family."""
    return _may_lack_names and not main_is_importable()


def _lacks_main(sink: Sink) -> bool:
    """Whether a pickle that names the main module may name what a fresh child does not have."""
    return main_by_value() or bool(_names_below_for(sink))


def _by_value_instead(obj: object, sink: Sink, carries: bool = True) -> None:
    sink.clear()
    try:
        _module_by_value().dump_into(obj, sink, carries)
    except Exception as error:
        error.add_note("It is sent by value because child processes cannot import this main module.")
        raise


def _module_by_value() -> Any:
    """The module that sends by value; without cloudpickle ``ModuleNotFoundError``, the same each time."""
    try:
        from . import _by_value
    except ImportError:
        try:
            import cloudpickle  # noqa: F401
        except ImportError as error:
            text = f"what children cannot import by name is sent by value, which needs cloudpickle: {error}"
            raise ModuleNotFoundError(text, name="cloudpickle") from error
        raise
    return _by_value
