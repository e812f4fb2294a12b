"""The standard library's ``multiprocessing.dummy`` (threads with the interface of processes), under this name too."""

import sys
from multiprocessing import dummy

TYPE_CHECKING = False  # as typing's, without importing it
if TYPE_CHECKING:
    from multiprocessing.dummy import *  # noqa: F403

sys.modules[__name__] = dummy
