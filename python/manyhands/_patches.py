"""How a module of the standard library's is changed, and changed back, for `install`. Used by `_install` alone.

Nothing here replaces a name. A class gets a ``__new__`` that makes ours when the class itself is called. A function
gets the code of a function in `_patch_bodies`, and its own code lives on in a copy, for callers of the original.
A class or function that somebody else has changed or put there is heeded: it makes what they made of it.
"""

from __future__ import annotations

import sys
from types import FunctionType

from . import _IMPORTED_LATER, _imports, _install, _kin
from ._own import asks_for_its_own, makes_its_pool

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["apply", "kept", "leave", "of_context", "original", "original_for_asker", "take_back"]

#: The originals of functions that have another body now: by module and qualified name.
kept: dict[tuple[str, str], FunctionType] = {}
#: The functions themselves.
_changed: dict[tuple[str, str], FunctionType] = {}
#: Others, which have a body of ours although manyhands is not installed; see `leave`.
_left: dict[tuple[str, str], FunctionType] = {}
#: What undoes the rest.
_undo: list[Callable[[], object]] = []
#: Classes that have their ``__new__``, and what was in each when it got it.
_classes: dict[type, dict[str, Any] | None] = {}


def apply(module: ModuleType) -> None:
    """Change what there is to change in a module that has just been executed, or was before."""
    from . import _patch_bodies

    name = module.__name__
    for class_name, ours in _kin.made_by_call(name).items():
        cls = vars(module).get(class_name)
        if isinstance(cls, type) and cls.__module__ == name and cls not in _classes:
            _change_class(module, cls, f"{__package__}.{ours}")
    for qualname, body in _patch_bodies.BODIES.get(name, {}).items():
        _change_function(module, qualname, body)
    _SPECIAL.get(name, _nothing)(module)


def take_back() -> None:
    """Give the functions their own code again, and undo the rest."""
    from . import _patch_bodies

    for key, function in list(_changed.items()):
        if key in _patch_bodies.LEFT:
            _give(function, _patch_bodies.LEFT[key], kept[key])
            _left[key] = function
        else:
            _restore(function, kept[key])
    _changed.clear()
    while _undo:
        _undo.pop()()


def leave(contexts: ModuleType) -> None:
    """Have the standard library's processes started by manyhands if they are sent something of it (see `start_theirs`),
    though it is not installed."""
    from . import _patch_bodies

    for key, body in _patch_bodies.LEFT.items():
        function = _function(contexts, key[1])
        if function is not None and _left.get(key) is not function:
            kept[key], _left[key] = _copy(function, key), function
            _give(function, body, kept[key])


def start_theirs(process_obj: Any, qualname: str, ours: str) -> Any:
    """Start a process as the standard library does, unless it is sent something of ours: then as we do."""
    from . import process

    try:
        return kept["multiprocessing.context", qualname](process_obj)
    except process.StartedByOthers:
        return __import__(f"{__package__}.{ours}", fromlist=["*"]).Popen(process_obj)


def original(module: str, qualname: str) -> Any:
    """The standard library's function, whatever is installed."""
    known = _changed.get((module, qualname))
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part)
    return kept[module, qualname] if known is not None and known is found else found


def original_for_asker(module: str, qualname: str, made: str | None = None) -> FunctionType | None:
    """For a body: the function's original, if that is to be called.

    That is so for the code that gets the standard library's own objects, and for everybody if somebody has changed the
    class of which the original makes objects, ``made``.
    """
    theirs: Any = getattr(sys.modules[module], made) if made is not None else None
    changed = isinstance(theirs, type) and _is_changed(theirs)
    return kept[module, qualname] if changed or asks_for_its_own(sys._getframe(2)) else None


def original_of_shared(name: str, ctx: Any = None) -> FunctionType | None:
    """For a body of `multiprocessing.sharedctypes`: the function's original, if that is to be called."""
    asks = asks_for_its_own(sys._getframe(2)) or is_started_by_others(ctx)
    return kept["multiprocessing.sharedctypes", name] if asks else None


def is_the_server(server: object) -> bool:
    """Whether it is the object that stands for this process's fork server in `multiprocessing.forkserver`."""
    return server is vars(sys.modules["multiprocessing.forkserver"]).get("_forkserver")


def of_context(ctx: Any, method: str, submodule: str, *args: Any, **kwds: Any) -> Any:
    """What a method of the standard library's contexts makes.

    Where the submodule has been imported, its names are asked, because somebody may have put others there. Where not,
    it need not be: ours is made without it.
    """
    frame = sys._getframe(2)
    theirs = asks_for_its_own(frame) or (method == "SimpleQueue" and makes_its_pool(frame))
    if is_started_by_others(ctx):
        if method in ("RawArray", "RawValue"):
            # The function that is asked for these is not told the context.
            __import__("multiprocessing.sharedctypes")
            return kept["multiprocessing.sharedctypes", method](*args)
        theirs = True
    if theirs or (_imports.is_executed(f"multiprocessing.{submodule}") and "on_owner_death" not in kwds):
        return kept["multiprocessing.context", f"BaseContext.{method}"](ctx, *args, **kwds)
    from . import context

    return getattr(context.BaseContext, method)(ctx, *args, **kwds)


def is_started_by_others(ctx: Any) -> bool:
    """Whether processes of the context are started by code of somebody's own, neither the standard library's nor ours.

    They could not open what is ours: such a context makes the standard library's objects.
    """
    kind = getattr(getattr(ctx, "_actual_context", None) or ctx, "Process", None)
    popen: Any = getattr(kind, "_Popen", None)
    known = getattr(getattr(popen, "__func__", popen), "__globals__", None)
    return known is not None and known.get("__name__") not in _START_PROCESSES


_START_PROCESSES = {"multiprocessing.context", f"{__package__}.process"}


# --- classes ---


def _change_class(module: ModuleType, theirs: type, ours: str) -> None:
    takes = _TAKES.get(theirs.__name__, _with_context)

    def __new__(cls: type, /, *args: Any, **kwds: Any) -> Any:
        if cls is theirs and _install._installed and takes(args, kwds) and not _is_changed(theirs):
            frame = sys._getframe(1)
            if not asks_for_its_own(frame) and not (
                theirs.__name__ == "SimpleQueue" and makes_its_pool(frame)
            ):
                made: Any = getattr(__import__(ours, fromlist=["*"]), theirs.__name__)
                # One of ours that is derived from theirs is initialised by the call that this is part of.
                return made.__new__(made, *args, **kwds) if issubclass(made, theirs) else made(*args, **kwds)
        new: Any = super(theirs, cls).__new__  # type: ignore[arg-type]
        return new(cls) if new is object.__new__ else new(cls, *args, **kwds)

    # For `inspect.signature`.
    __new__.__wrapped__ = theirs.__init__  # type: ignore[attr-defined, misc]
    pristine = not any(_is_foreign(value, module) for value in vars(theirs).values())
    # It stays when the rest is taken back: a class that had a `__new__` of Python's once can lose it, but takes no
    # arguments then.
    theirs.__new__ = staticmethod(__new__)  # type: ignore[method-assign]
    _classes[theirs] = dict(vars(theirs)) if pristine else None


def _is_changed(theirs: type) -> bool:
    """Whether somebody has added or replaced something in the class, or in one that it is derived from: what that is
    for, ours would leave out."""
    return any(
        kind in _classes and vars(kind) != _classes[kind] and not _only_noted(kind) for kind in theirs.__mro__
    )


#: What Python itself notes in a class: `copyreg` when it pickles an object, annotations when they are asked for.
_NOTES = {
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__doc__",
    "__signature__",
    "__slotnames__",
}


def _only_noted(kind: type) -> bool:
    """Whether nothing but such notes has changed in a class; the next time they are known."""
    before, now = _classes[kind], dict(vars(kind))
    if before is None:
        return False
    for name in {*before, *now} - _NOTES:
        if name not in before or name not in now or before[name] != now[name]:
            return False
    _classes[kind] = now
    return True


def _is_foreign(value: Any, module: ModuleType) -> bool:
    """Whether it is a function that was not defined in that module."""
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    return isinstance(value, FunctionType) and value.__globals__ is not vars(module) and not _is_made(value)


def _is_made(function: FunctionType) -> bool:
    """Whether it was made by ``exec``, as `sharedctypes` and `collections.namedtuple` do."""
    return function.__code__.co_filename.startswith("<")


def _with_context(_args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    """Without a context there is nothing to make: this is `pickle`, say, which fills a new object by its state."""
    return "ctx" in kwds and not is_started_by_others(kwds["ctx"])


def _with_our_lock(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    """A condition around a lock of the standard library's is the standard library's."""
    from . import _manyhands

    lock = args[0] if args else kwds.get("lock")
    return _with_context(args, kwds) and (not lock or isinstance(lock, _manyhands.Lock))


def _with_arguments(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
    return bool(args or kwds)


def _on_our_context(place: int, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], bool]:
    """Whether the context, given in that place or by that name, has one of the start methods that are ours."""

    def takes(args: tuple[Any, ...], kwds: dict[str, Any]) -> bool:
        ctx = args[place] if len(args) > place else kwds.get(name)
        if not ctx:
            from multiprocessing.context import _default_context as ctx
        method = getattr(ctx, "get_start_method", None)
        known = method is None or method() in ("fork", "forkserver", "spawn")
        return known and not is_started_by_others(ctx)

    return takes


_TAKES: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], bool]] = {
    "Condition": _with_our_lock,
    "Connection": _with_arguments,
    "Listener": lambda _args, _kwds: True,
    "Pool": _on_our_context(4, "context"),
    "ProcessPoolExecutor": _on_our_context(1, "mp_context"),
    "Synchronized": _with_arguments,
    "SynchronizedArray": _with_arguments,
    "SynchronizedBase": _with_arguments,
    "SynchronizedString": _with_arguments,
}


# --- functions ---


def _change_function(module: ModuleType, qualname: str, body: FunctionType) -> None:
    function = _function(module, qualname)
    key = module.__name__, qualname
    if function is None or _changed.get(key) is function:
        return
    if _left.pop(key, None) is not function:
        kept[key] = _copy(function, key)
    # Otherwise it has not had its own code since it was kept.
    _changed[key] = function
    _give(function, body, kept[key])


def _function(module: ModuleType, qualname: str) -> FunctionType | None:
    """The module's own function of that name; ``None`` where it has none or somebody has put their own there."""
    found: Any = vars(module)
    for part in qualname.split("."):
        found = (found if isinstance(found, dict) else vars(found)).get(part)
        if found is None:
            return None
    function = getattr(found, "__func__", found)
    its_own = isinstance(function, FunctionType) and function.__globals__ is vars(module)
    return function if its_own and function.__closure__ is None else None


def _copy(function: FunctionType, key: tuple[str, str]) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, None
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__module__, copy.__qualname__ = key
    copy.__doc__ = function.__doc__
    return copy


def _restore(function: FunctionType, before: FunctionType) -> None:
    function.__code__ = before.__code__
    function.__defaults__, function.__kwdefaults__ = before.__defaults__, before.__kwdefaults__
    function.__doc__ = before.__doc__


def _give(function: FunctionType, body: FunctionType, before: FunctionType) -> None:
    # In this order another thread that calls it meanwhile finds each argument that it needs.
    function.__kwdefaults__, function.__defaults__ = body.__kwdefaults__, body.__defaults__
    function.__code__ = body.__code__.replace(co_name=function.__name__)
    function.__doc__ = body.__doc__ or before.__doc__


# --- single modules ---


def _nothing(_module: ModuleType) -> None:
    pass


def _change_package(module: ModuleType) -> None:
    """Where the standard library has imported a submodule by the way, it is there when it is asked for."""
    if "__getattr__" not in vars(module):
        vars(module)["__getattr__"] = submodule
        _undo.append(lambda: _restore_package(module))


def _restore_package(module: ModuleType) -> None:
    if vars(module).get("__getattr__") is submodule:
        del vars(module)["__getattr__"]


def submodule(name: str) -> ModuleType:
    """The ``__getattr__`` of the package `multiprocessing`."""
    if name in _IMPORTED_LATER:
        __import__(f"multiprocessing.{name}")
        return sys.modules[f"multiprocessing.{name}"]
    raise AttributeError(f"module 'multiprocessing' has no attribute {name!r}")


def _change_forkserver(module: ModuleType) -> None:
    """The object that stands for the fork server tells of ours; what to preload is asked from it."""
    theirs: Any = vars(module)["_forkserver"]
    cls: Any = vars(module)["ForkServer"]

    def get_pid(server: Any) -> Any:
        ours: Any = sys.modules.get(f"{__package__}.forkserver")
        pid = None
        # In another thread, ours may be just being imported.
        known: Any = vars(ours or sys).get("_forkserver")
        if known is not None and server is theirs and not asks_for_its_own(sys._getframe(1)):
            pid = known._forkserver_pid
        return vars(server)["_forkserver_pid"] if pid is None else pid

    def set_pid(server: Any, pid: Any) -> None:
        vars(server)["_forkserver_pid"] = pid

    cls._forkserver_pid = property(get_pid, set_pid)
    _undo.append(lambda: delattr(cls, "_forkserver_pid"))
    if theirs._preload_modules == ["__main__"]:
        _preload(theirs, into_ours=False)
    _undo.append(lambda: _preload(theirs, into_ours=True))


def _preload(theirs: Any, into_ours: bool) -> None:
    """What was asked to be preloaded, from one to the other."""
    ours: Any = vars(sys.modules.get(f"{__package__}.forkserver") or sys).get("_forkserver")
    if ours is not None:
        told, other = (theirs, ours) if into_ours else (ours, theirs)
        other._preload_modules = told._preload_modules
        # Standard libraries before 3.15 do not look at it.
        other._preload_on_error = getattr(told, "_preload_on_error", "ignore")


def _change_contexts(_module: ModuleType) -> None:
    apply(sys.modules["multiprocessing.process"])


_SPECIAL: dict[str, Callable[[ModuleType], None]] = {
    "multiprocessing.context": _change_contexts,
    "multiprocessing": _change_package,
    "multiprocessing.forkserver": _change_forkserver,
}
