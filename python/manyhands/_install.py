"""`install`: our contexts, processes, queues, pools, locks and executor in place of the standard library's."""

from __future__ import annotations

import importlib.util
import sys
from types import MethodType, ModuleType

from . import _lazy

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "installed"]

_installed = False

#: Which of our names stand in for the standard library's, module by module.
_REPLACED = {
    "context": (
        "BaseContext DefaultContext ForkContext ForkProcess ForkServerContext ForkServerProcess Process SpawnContext"
        " SpawnProcess _concrete_contexts _default_context _force_start_method"
    ),
    "queues": "JoinableQueue Queue SimpleQueue",
    "connection": "Client Connection Listener Pipe XmlClient XmlListener rebuild_connection reduce_connection wait",
    "synchronize": "Barrier BoundedSemaphore Condition Event Lock RLock Semaphore",
    "pool": "ApplyResult AsyncResult IMapIterator IMapUnorderedIterator MapResult Pool",
    "forkserver": "ForkServer _forkserver ensure_running get_inherited_fds set_forkserver_preload",
}

_SHARED = "multiprocessing.sharedctypes"
_SHARED_NAMES = (
    "Array RawArray RawValue Synchronized SynchronizedArray SynchronizedBase SynchronizedString Value _new_value"
    " class_cache copy make_property prop_cache rebuild_ctype reduce_ctype synchronized typecode_to_type"
)

#: Classes of the standard library that are built on ones we replace: they go on with the originals. (Of the queues only
#: the one inside its executor, which is no public name.)
_KEPT: dict[str, list[str]] = {"queues": [], "pool": ["ThreadPool"]}


def installed() -> bool:
    """Whether `install` was called in this process, or in one it descends from."""
    return _installed or getattr(sys.modules.get(f"{__package__}._child"), "installs", False)


def install() -> None:
    """Put what manyhands has in place of the standard library's, in this interpreter and its children.

    Replaced are the contexts, ``Process``, the fork server, ``Queue``, ``JoinableQueue``, ``SimpleQueue``, ``Pool``,
    ``Pipe``, ``Connection``, ``Listener``, ``Client`` and ``wait``, locks, semaphores, conditions, events, barriers and
    shared values, wherever the ``multiprocessing`` package and its submodules name them, and
    ``concurrent.futures.ProcessPoolExecutor``; everything else stays. Call it before other modules take names
    out of these packages. Calling it again does nothing.
    """
    global _installed
    if _installed:
        return
    _installed = True
    executor: Any = importlib.import_module("concurrent.futures.process")
    import multiprocessing.context
    import multiprocessing.pool

    for name, classes in _KEPT.items():
        _keep(name, classes)
    replaced = dict(_REPLACED)
    # The standard library's executor is built on its own queues, and goes on with them.
    if hasattr(executor, "_SafeQueue"):
        executor._SafeQueue.__bases__ = (standard_queues().Queue,)
    else:
        # It is just being imported, in a child, and will take its base from there; contexts make ours all the same.
        del replaced["queues"]
    theirs: Any = multiprocessing.context._default_context
    ours = importlib.import_module("manyhands.context")
    if theirs._actual_context is not None:
        # A start method that was set before holds on.
        ours._force_start_method(theirs._actual_context.get_start_method())
    for name, attributes in replaced.items():
        if name == "synchronize":
            # Ours makes one of these for a lock that is not ours.
            module = importlib.import_module("multiprocessing.synchronize")
            module._standard_Condition = module.Condition  # type: ignore[attr-defined]
        _replace(name, attributes)
    _rebind(theirs, ours._default_context)
    _replace_executor(executor)
    # Not imported for this: it imports much, and few programs look into it.
    _lazy.put(_SHARED)
    _lazy.when_loaded(_SHARED, replace_shared, at_once=True)


def replace_shared(_module: object = None) -> None:
    """Put our `sharedctypes` in place of the standard library's, once both have run."""
    name = "manyhands.sharedctypes"
    # Ours imports theirs for its classes, and comes here at its end.
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if not getattr(spec, "_initializing", False):
        put_shared()


def put_shared() -> None:
    """As `replace_shared`, which could not be done before now."""
    _replace("sharedctypes", _SHARED_NAMES)


def _replace(name: str, attributes: str) -> None:
    module = _standard(name)
    replacement = importlib.import_module(f"manyhands.{name}")
    for attribute in attributes.split():
        setattr(module, attribute, getattr(replacement, attribute))


def _standard(name: str) -> ModuleType:
    """A submodule of `multiprocessing` whose body has run: what is put into one before would be overwritten by it."""
    module = importlib.import_module(f"multiprocessing.{name}")
    _lazy.load(module.__name__)
    return module


class _ExecutorModule(ModuleType):
    """``concurrent.futures.process`` with our executor in it, which is not imported before somebody asks for it.

    An attribute of the module's class goes before what stands in the module, so this holds for a module that is just
    being imported, too. The standard library's executor stays where it was, in the module's dictionary.
    """

    _executor: Any = None

    @property
    def ProcessPoolExecutor(self) -> Any:
        if self._executor is None:
            return importlib.import_module("manyhands.futures").ProcessPoolExecutor
        return self._executor

    @ProcessPoolExecutor.setter
    def ProcessPoolExecutor(self, other: Any) -> None:
        self._executor = other

    @ProcessPoolExecutor.deleter
    def ProcessPoolExecutor(self) -> None:
        self._executor = None


def _replace_executor(module: ModuleType) -> None:
    module.__class__ = _ExecutorModule
    # The package looks into the module when it is asked, if it did not do so before.
    vars(importlib.import_module("concurrent.futures")).pop("ProcessPoolExecutor", None)


def standard_queues() -> Any:
    """The standard library's queues, whatever is installed."""
    kept = "multiprocessing._standard_queues"
    return importlib.import_module(kept if kept in sys.modules else "multiprocessing.queues")


def _keep(name: str, classes: list[str]) -> None:
    """Load a second copy of a standard module, whose classes refer to the originals, and take some from there."""
    module = _standard(name)
    spec = importlib.util.spec_from_file_location(f"multiprocessing._standard_{name}", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = copy
    spec.loader.exec_module(copy)
    for cls in classes:
        kept: Any = getattr(copy, cls)
        # Pickles say where a class is found by its users, not where it was loaded from.
        kept.__module__ = module.__name__
        setattr(module, cls, kept)


def _rebind(old: object, new: Any) -> None:
    """Functions such as ``multiprocessing.get_context`` are methods of the default context, and modules hold copies."""
    for name, module in list(sys.modules.items()):
        if name == "multiprocessing" or name.startswith("multiprocessing."):
            _rebind_in(module, old, new)
    package: Any = sys.modules["multiprocessing"]
    for name in package.__all__:
        setattr(package, name, getattr(new, name))


def _rebind_in(module: ModuleType, old: object, new: Any) -> None:
    for name, value in list(vars(module).items()):
        if isinstance(value, MethodType) and value.__self__ is old:
            setattr(module, name, getattr(new, value.__func__.__name__))
