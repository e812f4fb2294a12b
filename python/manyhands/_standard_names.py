"""Names that the standard library's modules have and ours of the same name do not.

Programs that say ``import manyhands as multiprocessing`` ask our modules for all that they know of the standard
library's: ``multiprocessing.pool.TimeoutError``, ``multiprocessing.process._children``. What ours lack is given here by
the module's ``__getattr__``: the standard library's own, looked up anew each time, because some are bound again.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["standard_name"]


def standard_name(module: str, name: str) -> Any:
    """What the standard library's module calls ``name``.

    Args:
        module: the name of our module that was asked and does not have it.
        name: what it was asked for; of what the import system and others keep in a module, nothing is found.

    Raises:
        AttributeError: the standard library's module does not have it, either; said of our module. Or ours is still
            being imported, and may have the name later.
    """
    being_imported = getattr(sys.modules[module].__spec__, "_initializing", False)
    if not being_imported and not name[:2] == name[-2:] == "__":
        theirs = import_module(f"multiprocessing.{module.rpartition('.')[2]}")
        try:
            return getattr(theirs, name)
        except AttributeError:
            pass
    raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)
